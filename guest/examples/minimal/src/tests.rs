//! Native tests, with a host without models.

use rostro_sdk::testing::Fixed;

use super::*;

#[test]
fn other_bytes_are_an_image_error() {
    let answer = Pipeline::analyze(&Fixed::default(), b"no image".to_vec(), Purpose::Recognize);
    assert!(matches!(answer, Err(AnalyzeError::Image(_))), "{answer:?}");
}

#[test]
fn description_lists_loaded_models() {
    let description = Pipeline::describe();
    assert_eq!(description.models, [DETECTOR, RECOGNIZER]);
    assert_eq!(description.identity.name, env!("CARGO_PKG_NAME"));
}
