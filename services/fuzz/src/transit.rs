//! What a transit key made, as clients send it back.

#[path = "../../metacrypt/src/engine/transit/written.rs"]
mod written;

use written::Written;

/// What is written is read as it was.
pub fn made(version: u32, bytes: &[u8]) {
    let made = Written {
        version: version.max(1),
        bytes: bytes.to_vec(),
    };
    assert_eq!(made.text().parse(), Ok(made));
}

/// Whatever is read has one spelling.
pub fn anything(text: &str) {
    for text in [text, &format!("metacrypt:v{text}")] {
        if let Ok(written) = text.parse::<Written>() {
            assert_eq!(written.text(), *text);
        }
    }
}
