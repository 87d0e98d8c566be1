use super::*;

fn args(toml: &str) -> ServeArgs {
    toml::from_str(toml).unwrap()
}

#[test]
fn typed_values_win_over_file() {
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
fn pipeline_settings_merge_by_key() {
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
fn search_is_exact_by_default() {
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
        ("search = 'int8'", Method::Int8 { above: 100_000 }),
        (
            "search = 'int8'\napproximate-above = 5",
            Method::Int8 { above: 5 },
        ),
    ] {
        assert_eq!(args(toml).validate().unwrap().search, method, "{toml}");
    }
}

#[test]
fn precision_is_auto_by_default() {
    for (toml, precision) in [
        ("", PrecisionMode::Auto),
        ("precision = 'auto'", PrecisionMode::Auto),
        ("precision = 'float'", PrecisionMode::Float),
        ("precision = 'int8'", PrecisionMode::Int8),
    ] {
        assert_eq!(
            args(toml).validate().unwrap().precision,
            precision,
            "{toml}"
        );
    }
}

#[test]
fn unknown_key_is_named() {
    let error = toml::from_str::<ServeArgs>("similarity = 0.4")
        .unwrap_err()
        .to_string();
    assert!(error.contains("unknown field `similarity`"), "{error}");
}

#[test]
fn out_of_range_error_names_range() {
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
        (
            "keep-sessions = 0",
            "keep-sessions is 0; it must be between 1 and 36500 days",
        ),
        (
            "max-sessions = 0",
            "max-sessions is 0; it must be between 1 and 10000",
        ),
        ("workers = 0", "workers is 0; it must be between 1 and 1024"),
        (
            "workers = 1025",
            "workers is 1025; it must be between 1 and 1024",
        ),
        ("breaker = 0", "breaker is 0; it must be at least 1"),
        (
            "admin = '0.0.0.0:1'",
            "the admin interface at 0.0.0.0:1 can be reached from other machines and needs tokens; name a file of tokens with --admin-token-file",
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
fn proxies_and_origins_are_parsed() {
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
fn malformed_number_error_says_rule() {
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

#[test]
fn node_settings_cover_answers() {
    let config = args(
        "models = 'missing'\nsimilarity-threshold = 0.5\nlease = 2.5\nreview = 'strict'\nallow-different = true\n\
         search = 'int8'\n[setting]\nrivals = true\n[limit]\nfaces = 9",
    )
    .validate()
    .unwrap();
    assert!(config.fleet.allows_different);
    let settings = config.fleet.settings.values();
    for (key, value) in [
        ("detection-threshold", "the pack's"),
        ("similarity-threshold", "0.5"),
        ("max-megapixels", "40"),
        ("pack", "mobile"),
        ("precision", "auto"),
        ("search", "int8 above 100000"),
        ("review", "strict"),
        ("lease", "2.5"),
        ("keep-audit", "730"),
        ("limit.faces", "9"),
        ("limit.templates", "16"),
        ("setting.rivals", "true"),
    ] {
        assert_eq!(settings[key], value, "{key}");
    }
    assert!(!settings.contains_key("int8-models"));
    fleet::add_models(&config);
    assert_eq!(config.fleet.settings.values()["int8-models"], "none");
    fleet::set_review(&config.fleet.settings, Review::Off);
    assert_eq!(config.fleet.settings.values()["review"], "off");
}

#[test]
fn long_lease_outlasts_deadline() {
    for (lease, deadline, outlasts) in [
        (5, 30, false),
        (27, 30, false),
        (28, 30, true),
        (60, 30, true),
    ] {
        let [lease, deadline] = [lease, deadline].map(Duration::from_secs);
        assert_eq!(
            fleet::outlasts_deadline(lease, deadline),
            outlasts,
            "{lease:?}"
        );
    }
}
