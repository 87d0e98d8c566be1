//! A person's id, and the two ids that are read like it.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use rostro_fuzz::seed;
use rostro_host::{ContractId, PersonId};

fn seeds() {
    for (number, id) in ["s6", "A.b_c-d@e.f", "../s6", ".hidden", "Unknown", "0123456789abcdef"].iter().enumerate() {
        seed(&number.to_string(), id.as_bytes());
    }
}

fuzz_target!(init: seeds(), |text: &str| {
    if let Ok(id) = text.parse::<PersonId>() {
        assert_eq!((id.as_str(), id.to_string().as_str()), (text, text));
        assert!((1..=128).contains(&text.len()) && text != "Unknown");
        // A file right inside of the gallery, and no hidden one.
        let file = format!("{id}.csv");
        let path = Path::new("gallery").join(&file);
        let parts: Vec<Component<'_>> = path.components().collect();
        assert_eq!(parts, [Component::Normal("gallery".as_ref()), Component::Normal(file.as_ref())]);
        assert!(!text.starts_with('.') && text.chars().all(|c| c.is_ascii_graphic()));
    }
    if let Ok(contract) = text.parse::<ContractId>() {
        assert_eq!(contract.to_string(), text);
        assert!(text.parse::<PersonId>().is_ok());
    }
});
