use super::*;

fn args(toml: &str) -> ServeArgs {
    toml::from_str(toml).unwrap()
}

#[test]
fn what_was_typed_wins_over_the_file_key_by_key() {
    let typed = ServeArgs {
        pack: Some("buffalo_l".into()),
        settings: vec![("letterbox".into(), "square".into())],
        ..ServeArgs::default()
    };
    let config = typed
        .or(args(
            "pack = 'mobile'\nqueue = 3\n[setting]\nletterbox = 'frame'\ndetector-size = 320",
        ))
        .validate()
        .unwrap();
    assert_eq!((config.pack.as_str(), config.queue), ("buffalo_l", 3));
    let own: Vec<_> = config
        .tuning
        .own
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(own, ["detector-size=320", "letterbox=square"]);
}

#[test]
fn a_setting_of_the_pipeline_is_decided_key_by_key() {
    let typed = ServeArgs {
        settings: vec![("a".into(), "flag, with a comma".into())],
        ..ServeArgs::default()
    };
    let variable = ServeArgs::of_variables(Some("a=variable,b=variable".into()), None).unwrap();
    let config = typed
        .or(variable)
        .or(args("[setting]\na = 'file'\nb = 'file'\nc = true"))
        .validate()
        .unwrap();
    let own: Vec<_> = config
        .tuning
        .own
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(own, ["a=flag, with a comma", "b=variable", "c=true"]);
    assert!(
        ServeArgs::of_variables(Some("a".into()), None)
            .unwrap_err()
            .to_string()
            .contains("KEY=VALUE")
    );
    assert!(
        ServeArgs::of_variables(None, None)
            .unwrap()
            .settings
            .is_empty()
    );
}

#[test]
fn a_search_is_exact_unless_it_is_chosen_otherwise() {
    for (toml, method) in [
        ("", Method::Exact),
        ("approximate-above = 5", Method::Exact),
        (
            "search = 'approximate'",
            Method::Approximate { above: 100_000 },
        ),
        (
            "search = 'approximate'\napproximate-above = 5",
            Method::Approximate { above: 5 },
        ),
    ] {
        assert_eq!(args(toml).validate().unwrap().search, method, "{toml}");
    }
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    let error = toml::from_str::<ServeArgs>("similarity = 0.4")
        .unwrap_err()
        .to_string();
    assert!(error.contains("unknown field `similarity`"), "{error}");
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    for (toml, message) in [
        (
            "similarity-threshold = 1.5",
            "similarity-threshold is 1.5; it must be between -1 and 1",
        ),
        (
            "detection-threshold = nan",
            "detection-threshold is NaN; it must be between 0 and 1",
        ),
        (
            "deadline = 0",
            "deadline is 0; it must be between 0.001 and 3600 seconds",
        ),
        (
            "keep-audit = 0",
            "keep-audit is 0; it must be between 1 and 36500 days",
        ),
        ("workers = 0", "workers is 0; it must be between 1 and 1024"),
        (
            "workers = 1025",
            "workers is 1025; it must be between 1 and 1024",
        ),
        ("breaker = 0", "breaker is 0; it must be at least 1"),
        (
            "admin = '0.0.0.0:1'",
            "the admin interface at 0.0.0.0:1 can be reached by others, who need a token: name a file of tokens with --admin-token-file",
        ),
        (
            "max-megapixels = 0",
            "max-megapixels is 0; it must be between 1 and 40",
        ),
    ] {
        assert_eq!(args(toml).validate().unwrap_err().to_string(), message);
    }
}

#[test]
fn proxies_and_origins_are_read() {
    let config =
        args("trusted-proxies = ['10.0.0.0/8', '::1']\npublic-origin = ['https://cam.example']")
            .validate()
            .unwrap();
    assert_eq!(
        config
            .trusted_proxies
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["10.0.0.0/8", "::1/128"]
    );
    for (toml, words) in [
        (
            "trusted-proxies = ['nginx']",
            "write a network as 10.0.0.0/8",
        ),
        (
            "public-origin = ['cam.example']",
            "write an origin as https://",
        ),
        (
            "allow-origin = ['https://a/b']",
            "write an origin as https://",
        ),
    ] {
        let error = toml::from_str::<ServeArgs>(toml).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(
        args("allow-origin = ['*']\napi-keys = 'keys'")
            .validate()
            .is_ok()
    );
    let error = args("allow-origin = ['https://app.example']")
        .validate()
        .unwrap_err()
        .to_string();
    assert!(error.contains("--api-keys"), "{error}");
}

#[test]
fn number_malformed_says_what_it_must_be() {
    for (text, says) in [
        ("-1", "it must not be negative"),
        ("1.5", "it must be a whole number"),
        ("two", "it is not a number"),
        ("", "it is not a number"),
    ] {
        assert_eq!(number::<usize>(text).unwrap_err(), says, "{text}");
    }
    assert!(
        number::<u32>("99999999999")
            .unwrap_err()
            .contains("too large")
    );
    assert_eq!((number("64"), number(" 0.5 ")), (Ok(64_usize), Ok(0.5_f32)));
}

#[test]
fn admin_name_needs_loopback_or_tokens() {
    assert!(args("admin = 'localhost:0'").validate().is_ok());
    let error = args("admin = 'nowhere.invalid:1'")
        .validate()
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot resolve nowhere.invalid:1: ") && error.ends_with("--admin"),
        "{error}"
    );
    assert!(
        args("admin = 'nowhere.invalid:1'\nadmin-token-file = 'tokens'")
            .validate()
            .is_ok()
    );
}
