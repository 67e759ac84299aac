//! The engine's methods: who calls, what is asked, and what is answered.

use mc_proto::metacrypt::v1::{
    CreateDataKeyRequest, CreateDataKeyResponse, CreateKeyRequest, DecryptRequest, DecryptResponse,
    DeleteKeyRequest, DeleteKeyResponse, EncryptRequest, EncryptResponse, ExportKeyRequest,
    ExportKeyResponse, GetKeyRequest, ListKeysRequest, ListKeysResponse, RandomRequest,
    RandomResponse, RewrapRequest, RewrapResponse, RotateKeyRequest, SignRequest, SignResponse,
    TransitKey, TrimKeyRequest, UpdateKeyRequest, VerifyRequest, VerifyResponse,
    transit_server::Transit,
};
use mcdsl::server::Caller;
use tonic::{Request, Response, Status, async_trait};

use super::{keys, list, uses};
use crate::api::Api;

#[async_trait]
impl Transit for Api {
    async fn create_key(
        &self,
        request: Request<CreateKeyRequest>,
    ) -> Result<Response<TransitKey>, Status> {
        let caller = Caller::of(&request)?;
        let answer = keys::create(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = list::keys(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn get_key(
        &self,
        request: Request<GetKeyRequest>,
    ) -> Result<Response<TransitKey>, Status> {
        let caller = Caller::of(&request)?;
        let answer = keys::get(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn update_key(
        &self,
        request: Request<UpdateKeyRequest>,
    ) -> Result<Response<TransitKey>, Status> {
        let caller = Caller::of(&request)?;
        let answer = keys::update(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<TransitKey>, Status> {
        let caller = Caller::of(&request)?;
        let answer = keys::rotate(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn trim_key(
        &self,
        request: Request<TrimKeyRequest>,
    ) -> Result<Response<TransitKey>, Status> {
        let caller = Caller::of(&request)?;
        let answer = keys::trim(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn delete_key(
        &self,
        request: Request<DeleteKeyRequest>,
    ) -> Result<Response<DeleteKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = keys::delete(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn export_key(
        &self,
        request: Request<ExportKeyRequest>,
    ) -> Result<Response<ExportKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = keys::export(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn encrypt(
        &self,
        request: Request<EncryptRequest>,
    ) -> Result<Response<EncryptResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = uses::encrypt(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn decrypt(
        &self,
        request: Request<DecryptRequest>,
    ) -> Result<Response<DecryptResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = uses::decrypt(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn rewrap(
        &self,
        request: Request<RewrapRequest>,
    ) -> Result<Response<RewrapResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = uses::rewrap(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn create_data_key(
        &self,
        request: Request<CreateDataKeyRequest>,
    ) -> Result<Response<CreateDataKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = uses::create_data_key(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = uses::sign(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn verify(
        &self,
        request: Request<VerifyRequest>,
    ) -> Result<Response<VerifyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = uses::verify(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn random(
        &self,
        request: Request<RandomRequest>,
    ) -> Result<Response<RandomResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = uses::random(self, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }
}
