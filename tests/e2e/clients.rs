//! API keys, tokens and certificates of the commands that call a running service.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use crate::harness::{Options, Server, drawn, refusal, rostro};

const KEY: &str = "0123456789abcdef-recognise";
const ENROL_KEY: &str = "0123456789abcdef-enrol";

/// A service with TLS for `localhost` and API keys.
struct Secured {
    folder: TempDir,
    server: Server,
}

impl Secured {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(at("certificate.pem"), cert.pem()).unwrap();
        std::fs::write(at("private.pem"), signing_key.serialize_pem()).unwrap();
        std::fs::write(
            at("keys"),
            format!("door:recognise:{KEY}\noffice:enrol:{ENROL_KEY}\n"),
        )
        .unwrap();
        std::fs::write(at("key"), KEY).unwrap();
        std::fs::write(at("enrol-key"), format!("office:enrol:{ENROL_KEY}\n")).unwrap();
        std::fs::write(at("other-key"), "another-key-of-nobody").unwrap();
        std::fs::write(at("picture.png"), drawn("empty.png")).unwrap();
        let server = Options::drawn()
            .arg("--tls-certificate", at("certificate.pem"))
            .arg("--tls-key", at("private.pem"))
            .arg("--api-keys", at("keys"))
            .start();
        Self { folder, server }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self) -> String {
        format!(
            "https://localhost:{}",
            self.server.url.rsplit_once(':').unwrap().1
        )
    }

    fn watch(&self, url: &str) -> Command {
        let mut command = rostro();
        command
            .env_remove("SSL_CERT_FILE")
            .env_remove("SSL_CERT_DIR")
            .arg("watch")
            .arg(self.at("picture.png"))
            .args(["--server", url]);
        command
    }
}

/// Returns the output of a command that must succeed.
fn succeeds(mut command: Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.stdin(Stdio::null()).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap() + std::str::from_utf8(&stderr).unwrap()
}

fn assert_refused(command: Command, expected: &[&str]) {
    let error = refusal(command);
    for words in expected {
        assert!(error.contains(words), "`{words}` is not in: {error}");
    }
    assert!(
        !error.contains("0123456789abcdef"),
        "a secret is in: {error}"
    );
}

#[test]
fn watch_trusts_named_certificates() {
    let secured = Secured::start();
    let url = secured.url();
    // The certificate is named by a flag, by variables, or by the system.
    let mut by_flag = secured.watch(&url);
    by_flag
        .arg("--ca")
        .arg(secured.at("certificate.pem"))
        .arg("--api-key-file")
        .arg(secured.at("key"));
    assert!(succeeds(by_flag).contains("no faces"));
    let mut by_variables = secured.watch(&url);
    by_variables
        .env("ROSTRO_CA", secured.at("certificate.pem"))
        .env("ROSTRO_API_KEY_FILE", secured.at("key"));
    assert!(succeeds(by_variables).contains("no faces"));
    let mut of_system = secured.watch(&url);
    of_system
        .env("SSL_CERT_FILE", secured.at("certificate.pem"))
        .arg("--api-key-file")
        .arg(secured.at("key"));
    assert!(succeeds(of_system).contains("no faces"));

    // No trusted certificate is named, or an unusable one.
    assert_refused(
        secured.watch(&url),
        &[
            "no answer from https://localhost",
            "name the authority's certificate with --ca FILE.pem",
        ],
    );
    let mut unusable = secured.watch(&url);
    unusable.arg("--ca").arg(secured.at("keys"));
    assert_refused(
        unusable,
        &["it has no certificate in PEM; name another file with --ca"],
    );
    let mut unusable = secured.watch(&url);
    unusable.env("SSL_CERT_FILE", secured.at("nowhere"));
    assert_refused(
        unusable,
        &["cannot read certificates in", "SSL_CERT_FILE or --ca"],
    );
    // The address has a name that the certificate lacks, or the wrong scheme.
    let port = url.rsplit_once(':').unwrap().1;
    let mut other_name = secured.watch(&format!("https://127.0.0.1:{port}"));
    other_name.arg("--ca").arg(secured.at("certificate.pem"));
    assert_refused(other_name, &["use a name of the certificate"]);
    assert_refused(
        secured.watch(&format!("http://localhost:{port}")),
        &["begin the address with https://"],
    );
    let plain = Options::drawn().start();
    assert_refused(
        secured.watch(&plain.url.replace("http:", "https:")),
        &["begin the address with http://"],
    );
}

#[test]
fn watch_sends_key_from_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(
        at("keys"),
        format!("door:recognise:{KEY}\noffice:enrol:{ENROL_KEY}\n"),
    )
    .unwrap();
    let server = Options::drawn().arg("--api-keys", at("keys")).start();
    std::fs::write(at("picture.png"), drawn("empty.png")).unwrap();
    let watch = |key: Option<&str>| {
        let mut command = rostro();
        command
            .arg("watch")
            .arg(at("picture.png"))
            .args(["--server", &server.url]);
        if let Some(key) = key {
            std::fs::write(at("key"), key).unwrap();
            command.arg("--api-key-file").arg(at("key"));
        }
        command
    };
    for key in [
        KEY.to_owned(),
        format!("\u{feff}# of the door\n\ndoor:recognise:{KEY}\r\n"),
    ] {
        assert!(succeeds(watch(Some(&key))).contains("no faces"), "{key}");
    }
    assert_refused(
        watch(None),
        &[
            "refused by http://127.0.0.1",
            "give the API key with --api-key-file FILE",
        ],
    );
    assert_refused(
        watch(Some("another-key-of-nobody")),
        &[
            "the API key in",
            "is unknown to the service",
            "--api-key-file",
        ],
    );
    assert_refused(
        watch(Some(ENROL_KEY)),
        &["the API key in", "is not good for this", "--api-key-file"],
    );
    assert_refused(
        watch(Some("")),
        &[
            "cannot read the API key in",
            "it is empty",
            "--api-key-file",
        ],
    );
}

fn list(server: &Server, variables: &[(&str, &Path)], args: &[&str]) -> Command {
    let mut command = rostro();
    command
        .args(["pipeline", "list", "--admin", &server.admin])
        .args(args)
        .envs(variables.iter().copied());
    command
}

#[test]
fn pipeline_sends_token_from_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(
        at("tokens"),
        "alice:0123456789abcdef-a\nbob:0123456789abcdef-b\n",
    )
    .unwrap();
    std::fs::write(at("token"), "\u{feff}0123456789abcdef-b").unwrap();
    std::fs::write(at("other"), "another-token-of-nobody").unwrap();
    let server = Options::drawn()
        .arg("--admin-token-file", at("tokens"))
        .start();
    let (token, tokens) = (at("token"), at("tokens"));
    for flag in ["--token-file", "--admin-token-file"] {
        assert!(
            succeeds(list(&server, &[], &[flag, token.to_str().unwrap()])).contains("active"),
            "{flag}"
        );
    }
    let by_variable = succeeds(list(&server, &[("ROSTRO_TOKEN_FILE", &token)], &[]));
    assert!(
        by_variable.contains("active") && !by_variable.contains("warning"),
        "{by_variable}"
    );
    // The server's variable still works for one more release, with a warning.
    let before = succeeds(list(&server, &[("ROSTRO_ADMIN_TOKEN_FILE", &tokens)], &[]));
    assert!(
        before.contains("active")
            && before.contains("name the client's file with ROSTRO_TOKEN_FILE"),
        "{before}"
    );

    assert_refused(
        list(&server, &[], &[]),
        &["needs a token", "give the token with --token-file FILE"],
    );
    assert_refused(
        list(&server, &[("ROSTRO_TOKEN_FILE", &at("other"))], &[]),
        &["is unknown to the service", "--token-file"],
    );
    assert_refused(
        list(&server, &[("ROSTRO_TOKEN_FILE", &at("nowhere"))], &[]),
        &["cannot read the token in", "--token-file"],
    );
}

/// The service's TLS port stands in for a TLS proxy of the admin interface. It is reachable, but
/// lacks the admin routes.
#[test]
fn pipeline_trusts_named_certificates() {
    let secured = Secured::start();
    let list = |ca: bool| {
        let mut command = rostro();
        command
            .env_remove("SSL_CERT_FILE")
            .env_remove("SSL_CERT_DIR")
            .args(["pipeline", "list", "--admin", &secured.url()]);
        if ca {
            command.arg("--ca").arg(secured.at("certificate.pem"));
        }
        command
    };
    assert_refused(
        list(false),
        &["cannot reach the admin interface", "--ca FILE.pem"],
    );
    let reached = refusal(list(true));
    assert!(
        reached.contains("refused") && !reached.contains("cannot reach"),
        "{reached}"
    );
}
