//! The engine's methods: who calls, what is asked, and what is answered.

use mc_proto::metacrypt::v1::{
    CreateDataKeyRequest, CreateDataKeyResponse, CreateKeyRequest, DecryptRequest, DecryptResponse,
    DeleteKeyRequest, DeleteKeyResponse, EncryptRequest, EncryptResponse, ExportKeyRequest,
    ExportKeyResponse, GetKeyRequest, ListKeysRequest, ListKeysResponse, RandomRequest,
    RandomResponse, RewrapRequest, RewrapResponse, RotateKeyRequest, SignRequest, SignResponse,
    TransitKey, TrimKeyRequest, UpdateKeyRequest, VerifyRequest, VerifyResponse,
    transit_server::Transit,
};

use super::{keys, list, uses};

methods! {
    Transit:
    create_key: CreateKeyRequest => TransitKey = keys::create,
    list_keys: ListKeysRequest => ListKeysResponse = list::keys,
    get_key: GetKeyRequest => TransitKey = keys::get,
    update_key: UpdateKeyRequest => TransitKey = keys::update,
    rotate_key: RotateKeyRequest => TransitKey = keys::rotate,
    trim_key: TrimKeyRequest => TransitKey = keys::trim,
    delete_key: DeleteKeyRequest => DeleteKeyResponse = keys::delete,
    export_key: ExportKeyRequest => ExportKeyResponse = keys::export,
    encrypt: EncryptRequest => EncryptResponse = uses::encrypt,
    decrypt: DecryptRequest => DecryptResponse = uses::decrypt,
    rewrap: RewrapRequest => RewrapResponse = uses::rewrap,
    create_data_key: CreateDataKeyRequest => CreateDataKeyResponse = uses::create_data_key,
    sign: SignRequest => SignResponse = uses::sign,
    verify: VerifyRequest => VerifyResponse = uses::verify,
    random: RandomRequest => RandomResponse = uses::random,
}
