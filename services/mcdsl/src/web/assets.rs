//! What pages load. The content's hash is in the path, so that browsers keep it for ever and never have an old one.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::{
    Router,
    http::{HeaderValue, header},
    routing::get,
};

use crate::human::hex;

/// The path of the style sheet.
pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "style.css",
        "text/css; charset=utf-8",
        include_bytes!("../../assets/style.css"),
    )
});
/// The path of htmx, as npm has it.
pub(super) static HTMX: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "htmx.js",
        "text/javascript; charset=utf-8",
        include_bytes!(concat!(
            env!("OUT_DIR"),
            "/npm/node_modules/htmx.org/dist/htmx.min.js"
        )),
    )
});
/// The path of the icon.
pub(super) static ICON: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "icon.svg",
        "image/svg+xml",
        include_bytes!("../../assets/icon.svg"),
    )
});

/// A script of a service's own.
pub(super) fn script(script: &super::Script) -> Asset {
    let kind = "text/javascript; charset=utf-8";
    Asset::new(script.name, kind, script.content.as_bytes())
}

const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// A file in the program.
pub(super) struct Asset {
    pub(super) path: String,
    kind: &'static str,
    content: &'static [u8],
}

impl Asset {
    fn new(name: &str, kind: &'static str, content: &'static [u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, content);
        let hash = hex(&hash.as_ref()[..8]);
        Self {
            path: format!("/assets/{hash}/{name}"),
            kind,
            content,
        }
    }
}

pub(super) fn router(scripts: &[Asset]) -> Router {
    let mut router = Router::new();
    let own: [&Asset; 3] = [&STYLE, &HTMX, &ICON];
    for asset in own.into_iter().chain(scripts) {
        let content = asset.content;
        let head = [
            (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
            (header::CACHE_CONTROL, IMMUTABLE),
        ];
        router = router.route(&asset.path, get(move || async move { (head, content) }));
    }
    router
}
