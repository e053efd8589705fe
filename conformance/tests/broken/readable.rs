//! What a verdict says is for people.

/// True unless a text has something that only a programmer of Rust can read.
pub(crate) fn readable(detail: &str) -> bool {
    const FORMS: &[&str] = &[
        "Some(", "Ok(", "Err(", " { ", "{}", "[]", "[(", "[\"", "[0x",
    ];
    FORMS.iter().all(|form| !detail.contains(form))
}
