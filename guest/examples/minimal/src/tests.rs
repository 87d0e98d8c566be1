//! Natively, with a host that has no models.

use rostro_sdk::testing::Fixed;

use super::*;

#[test]
fn what_is_no_image_is_the_callers_fault() {
    let answer = Pipeline::analyze(&Fixed::default(), b"no image".to_vec(), Purpose::Recognize);
    assert!(matches!(answer, Err(AnalyzeError::Image(_))), "{answer:?}");
}

#[test]
fn it_asks_for_the_models_that_it_loads() {
    let description = Pipeline::describe();
    assert_eq!(description.models, [DETECTOR, RECOGNIZER]);
    assert_eq!(description.identity.name, env!("CARGO_PKG_NAME"));
}
