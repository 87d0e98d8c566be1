//! `rostro serve --check`: reads all files of a start and a reload, connects to the database, and
//! changes nothing. It may run next to the service.

use rostro_api::Scopes;
use rostro_api::admin::Operator;
use rostro_api::auth::secrets::SecretsFile;
use rostro_api::server::tls::Tls;
use rostro_database::{Database, DatabaseError, DatabaseOptions, schema};
use rostro_delivery::Receivers;

use crate::config::{Machine, SecretFiles, Source};
use crate::terminal::say;

/// Errors of a check, a line for each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct CheckFailed(Vec<String>);

/// Checks the configuration, its memory, the database, and the files of keys, tokens and the
/// certificate. Prints a line for each.
///
/// # Errors
///
/// [`CheckFailed`] names everything that cannot be used.
pub(crate) fn check(source: &Source) -> Result<(), CheckFailed> {
    let args = source
        .read()
        .map_err(|error| CheckFailed(vec![error.to_string()]))?;
    let SecretFiles {
        api_keys,
        admin_token_file,
        tls,
        webhooks,
    } = args.secrets();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let mut add = |result: Result<String, String>| match result {
        Ok(line) => good.push(line),
        Err(error) => bad.push(error),
    };
    let fitted = args.fit(&Machine::of_this_process());
    let database = fitted
        .as_ref()
        .ok()
        .and_then(|config| config.database.clone());
    add(fitted
        .map(|_| "configuration: valid, and fits the memory".to_owned())
        .map_err(|error| error.to_string()));
    if let Some(options) = database {
        add(check_database(&options).map_err(|error| error.to_string()));
    }
    match api_keys.as_deref().map(SecretsFile::<Scopes>::read) {
        Some(read) => add(read
            .map(|keys| format!("API keys: {}", keys.count()))
            .map_err(|error| error.to_string())),
        None => add(Ok("API keys: none, callers need no key".to_owned())),
    }
    match admin_token_file
        .as_deref()
        .map(SecretsFile::<Operator>::read)
    {
        Some(read) => add(read
            .map(|tokens| format!("tokens: {}", tokens.count()))
            .map_err(|error| error.to_string())),
        None => add(Ok("tokens: none, operators need no token".to_owned())),
    }
    match tls
        .as_ref()
        .map(|(certificate, key)| Tls::new(certificate, key))
    {
        Some(read) => add(read
            .map(|_| "certificate: valid with its key".to_owned())
            .map_err(|error| error.to_string())),
        None => add(Ok("certificate: none".to_owned())),
    }
    match webhooks.as_deref().map(Receivers::read) {
        Some(read) => add(read
            .map(|receivers| format!("receivers: {}", receivers.names().count()))
            .map_err(|error| error.to_string())),
        None => add(Ok("receivers: none".to_owned())),
    }
    say(&good.join("\n"));
    if bad.is_empty() {
        Ok(())
    } else {
        Err(CheckFailed(bad))
    }
}

/// Connects to a database, and returns a line about it.
fn check_database(options: &DatabaseOptions) -> Result<String, DatabaseError> {
    let database = Database::open(options)?;
    let version = schema::check(&database)?.version;
    schema::check_rights(&database)?;
    let people = schema::count(&database)?.people;
    Ok(format!(
        "database: {options}, schema version {version}, {people} people"
    ))
}
