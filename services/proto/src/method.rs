//! What is known of a method outside of its code.

/// What a method's definition says of it.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// gRPC's: `/package.Service/Method`.
    pub path: &'static str,
    /// e.g. `metacircular.mcias.v1`.
    pub package: &'static str,
    /// Full name of the request's message.
    pub input: &'static str,
    /// Full name of the response's message.
    pub output: &'static str,
    /// Sends or takes more than one message.
    pub streams: bool,
    /// Takes more than one message.
    pub client_streams: bool,
    /// Sends more than one message.
    pub server_streams: bool,
    /// `None`: it streams.
    pub rest: Option<Rest>,
    /// Who may call it.
    pub access: Access,
}

/// How a method is reached by HTTP and JSON.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// GET, PUT, POST, DELETE or PATCH.
    pub verb: &'static str,
    /// `/v1/things/{name}`: what is in braces is a field of the request and takes one segment, `{*name}` all that are left.
    pub path: &'static str,
    /// The fields that the path binds.
    pub bound: &'static [&'static str],
    /// The others are the body; or else the query.
    pub body: bool,
}

/// Who may call a method.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The least that a caller must be.
    pub level: Level,
    /// Types of accounts that may call it; none named: all.
    pub callers: &'static [AccountType],
    /// Refused while the service is sealed.
    pub needs_unsealed: bool,
    /// Every call is written to the audit log, refused ones too.
    pub audited: bool,
    /// Tokens for other services are taken too.
    pub other_audiences: bool,
}

/// What a caller must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Anybody.
    Public,
    /// Whoever has a valid token.
    Authenticated,
    /// Those with the role `admin`.
    Admin,
}

/// Types of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountType {
    /// A person.
    Human,
    /// A service.
    System,
}
