//! API keys of callers and tokens of operators.

pub mod api_keys;
pub mod secrets;
pub mod tokens;
