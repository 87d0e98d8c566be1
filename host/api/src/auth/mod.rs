//! Authentication: API keys of callers, tokens of operators, and the files with both.

pub mod api_keys;
pub mod secrets;
pub mod tokens;
