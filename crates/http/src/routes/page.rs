//! The web page: a few files that are part of the program, made from `web/` by `make page`.

use actix_web::{HttpRequest, HttpResponse, http::header, web::ServiceConfig};

/// The page loads its own parts and asks its own API, nothing else; its styles are in its own file.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Asked again with every load, answered without a body while the program is the same.
const CACHE: &str = "no-cache";

/// A file of the page.
struct File {
    path: &'static str,
    kind: &'static str,
    /// gzip, as the build wrote it.
    packed: &'static [u8],
    /// Of the same file, the first 16 hex digits of its SHA-256, in quotes.
    tag: &'static str,
}

include!("../../web/dist/files.rs");

pub(super) fn configure(service: &mut ServiceConfig) {
    for file in FILES {
        service.service(super::get(file.path, move |request: HttpRequest| async move { answer(&request, file) }));
    }
}

fn answer(request: &HttpRequest, file: &'static File) -> HttpResponse {
    let known = request.headers().get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == file.tag.as_bytes());
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, CACHE))
        .insert_header((header::ETAG, file.tag));
    if known {
        return response.finish();
    }
    response
        .insert_header((header::CONTENT_TYPE, file.kind))
        // Every browser takes gzip; whoever does not can ask the API.
        .insert_header((header::CONTENT_ENCODING, "gzip"))
        .body(file.packed)
}
