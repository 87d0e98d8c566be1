//! Tests of the file of receivers.

use std::fs;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789";

/// Reads a file next to the files of a secret and a password.
fn read(text: &str) -> Result<Receivers, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("secret", SECRET),
        ("short", "0123"),
        ("empty", "\n"),
        ("password", "p4ssw0rd\n"),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let file = folder.path().join("receivers.toml");
    fs::write(&file, text).unwrap();
    Receivers::read(&file).map_err(|error| {
        let text = error.to_string();
        assert!(
            !text.contains(SECRET) && !text.contains("p4ssw0rd"),
            "{text}"
        );
        text.replace(&folder.path().display().to_string(), "FOLDER")
    })
}

#[test]
fn file_has_both_kinds() {
    let receivers = read(
        r#"
[[webhook]]
name = "desk"
url = "https://desk.example/rostro?key=1"
secret_file = "secret"
kinds = ["arrived", "late"]
timeout_s = 5

[[mqtt]]
name = "home"
url = "mqtt://127.0.0.1"
username = "rostro"
password_file = "password"
streams = ["door"]
discovery_prefix = ""
"#,
    )
    .unwrap();
    assert_eq!(receivers.names().collect::<Vec<_>>(), ["desk", "home"]);
    let (webhook, broker) = (&receivers.webhooks[0], &receivers.brokers[0]);
    assert_eq!(webhook.timeout, Duration::from_secs(5));
    assert!(webhook.tls.is_some() && broker.tls.is_none());
    assert!(webhook.filter.wants_kind_named("late") && !webhook.filter.wants_kind_named("ended"));
    assert!(webhook.filter.wants_stream(&"hall".parse().unwrap()));
    assert!(!broker.filter.wants_stream(&"hall".parse().unwrap()));
    assert_eq!(
        (broker.prefix.as_str(), broker.address.port()),
        ("rostro", 1883)
    );
    assert_eq!(broker.discovery_prefix, None);
    let login = broker.login.as_ref().unwrap();
    assert_eq!(login.password.as_deref(), Some("p4ssw0rd"));
    let debug = format!("{receivers:?}");
    assert!(!debug.contains("p4ssw0rd") && !debug.contains(SECRET));
    assert_eq!(read("").unwrap().names().count(), 0);
}

#[test]
fn mistake_names_line_and_remedy() {
    let webhook = |lines: &str| format!("[[webhook]]\nname = \"desk\"\n{lines}\n");
    let local = "url = \"http://127.0.0.1:1\"";
    let good = format!("{local}\nsecret_file = \"secret\"");
    let mqtt = |lines: &str| format!("[[mqtt]]\nname = \"home\"\n{lines}\n");
    let broker = "url = \"mqtt://localhost\"";
    for (text, says) in [
        (
            "[[webhooks]]\n".to_owned(),
            "line 1: unknown field `webhooks`",
        ),
        ("[[webhook]\n".to_owned(), "line 1"),
        (
            "[[webhook]]\nurl = \"\"\n".to_owned(),
            "line 1: missing field `name`",
        ),
        (
            webhook(&format!("{good}\nretries = 3")),
            "line 5: unknown field `retries`",
        ),
        (
            webhook(&good) + &webhook(&good),
            "line 6: webhook \"desk\": another receiver has the name",
        ),
        (
            webhook(&good) + &mqtt(broker).replace("home", "Desk"),
            "line 6: mqtt \"Desk\": another receiver",
        ),
        (webhook(&good).replace("desk", "de sk"), "letters, digits"),
        (webhook(&good).replace("desk", "../x"), "letters, digits"),
        (
            webhook(local),
            "line 2: webhook \"desk\": secret_file is missing; name a file",
        ),
        (webhook(&format!("{good}\nsecret_env = \"X\"")), "both set"),
        (
            webhook(&good.replace("_file = \"secret\"", "_env = \"ROSTRO_NO_SUCH\"")),
            "is not set",
        ),
        (
            webhook(&good.replace("= \"secret", "= \"short")),
            "shorter than 24 bytes",
        ),
        (
            webhook(&good.replace("= \"secret", "= \"empty")),
            "does not have one line",
        ),
        (
            webhook(&good.replace("= \"secret", "= \"none")),
            "cannot read secret_file FOLDER/none",
        ),
        (
            webhook(&good.replace("127.0.0.1", "10.0.0.1")),
            "insecure = true",
        ),
        (
            webhook(&good.replace("127.0.0.1", "u:p@127.0.0.1")),
            "has credentials",
        ),
        (
            webhook(&format!("{good}\nkinds = [\"came\"]")),
            "kinds has \"came\"; choose from started",
        ),
        (webhook(&format!("{good}\nkinds = []")), "kinds is empty"),
        (
            webhook(&format!("{good}\nstreams = [\"a b\"]")),
            "streams has \"a b\"",
        ),
        (webhook(&format!("{good}\ntimeout_s = 0")), "from 1 to 60"),
        (
            webhook(
                &good
                    .replace("http:", "https:")
                    .replace("secret\"", "secret\"\nca_file = \"short\""),
            ),
            "cannot use ca_file FOLDER/short: it has no certificate",
        ),
        (
            mqtt("url = \"http://localhost\""),
            "does not begin with mqtts://",
        ),
        (mqtt("url = \"mqtt://broker.example\""), "write mqtts://"),
        (mqtt("url = \"mqtt://localhost/x\""), "has a path"),
        (
            mqtt(&format!("{broker}\npassword_file = \"password\"")),
            "has no username",
        ),
        (
            mqtt(&format!("{broker}\nprefix = \"a/#\"")),
            "prefix is not",
        ),
        (mqtt(&format!("{broker}\nprefix = \"\"")), "prefix is not"),
        (
            mqtt(&format!("{broker}\ndiscovery_prefix = \"/\"")),
            "discovery_prefix is not",
        ),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
        assert!(error.starts_with("cannot use FOLDER/receivers.toml") && error.contains("; "));
        assert!(!error.contains('\n'), "{error}");
    }
    let missing = Receivers::read(Path::new("/no/such/file")).unwrap_err();
    assert_eq!(missing.line, None);
}
