//! The id of a person, and the two ids with a similar format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rostro_common::ids::{ContractId, PersonId};
use rostro_fuzz::seed;

fn seeds() {
    let ids = [
        "s6",
        "A.b_c-d@e.f",
        "../s6",
        ".hidden",
        "Unknown",
        "0123456789abcdef",
        "Jose\u{301} N\u{fa}\u{f1}ez",
        "李雷",
        "می\u{200c}رود",
    ];
    for (number, id) in ids.iter().enumerate() {
        seed(&number.to_string(), id.as_bytes());
    }
}

fuzz_target!(init: seeds(), |text: &str| {
    rostro_common::ids::property::holds(text);
    if let Ok(contract) = text.parse::<ContractId>() {
        assert_eq!(contract.to_string(), text);
        assert!(text.parse::<PersonId>().is_ok());
    }
});
