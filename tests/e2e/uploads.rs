//! Uploaded images: forms with parts of any shape, and bodies without a type.

use serde_json::{Value, json};

use crate::bad_input::{MISSING_ID, MISSING_IMAGE, UNDECODABLE};
use crate::harness::{Answer, Options, drawn, drawn_jpeg, file, part, text};

#[test]
fn part_parameter_order_is_irrelevant() {
    let server = Options::drawn().start();
    let picture = drawn_jpeg("alice-probe.png");
    for disposition in [
        r#"form-data; filename="frame.jpg"; name="image""#,
        r#"form-data; filename="my name.jpg"; name="image""#,
        r#"form-data; filename="a; name=x.jpg"; name="image""#,
        r#"form-data; filename="say \"name=x\".jpg"; name="image""#,
        r#"form-data; FILENAME=frame.jpg; Name=image"#,
        r#"form-data; filename="C:\dir\"; name="image""#,
        r#"form-data; filename=5" screen.jpg; name=image"#,
        r#"form-data; filename="a"b.jpg"; name="image""#,
        r#"form-data; filename="never closed.jpg; name="image""#,
        r#"form-data; filename*=UTF-8''fr%C3%A4me.jpg; name="image""#,
        r#"form-data;name="image";filename="frame.jpg""#,
    ] {
        let answer = server
            .form("/process_frame", &[part(disposition, picture.as_slice())])
            .ok();
        assert_eq!(
            answer["recognized_faces"].as_array().unwrap().len(),
            1,
            "{disposition}"
        );
    }
    let disposition = r#"form-data; filename="my name.jpg"; name="image""#;
    let answer = server
        .form("/v1/detect", &[part(disposition, picture)])
        .ok();
    assert_eq!(answer["faces"].as_array().unwrap().len(), 1);
}

/// The error text of the replaced service stays. `details` has the wanted field, the received
/// fields and the remedy.
#[test]
fn missing_image_lists_received_fields() {
    let server = Options::drawn().start();
    let picture = drawn("alice-probe.png");
    let explained = |answer: &Answer, received: Value, words: &str| {
        assert_eq!(answer.error(400, "image_missing"), MISSING_IMAGE);
        let details = &answer.json["details"];
        assert_eq!(
            (&details["wanted"], &details["received"]),
            (&json!({ "name": "image", "kind": "file" }), &received),
            "{details}"
        );
        assert!(
            details["cause"].as_str().unwrap().contains(words),
            "{details}"
        );
    };
    // Recognition.
    let photo = json!([{ "name": "photo", "kind": "file" }]);
    explained(
        &server.form("/process_frame", &[file("photo", "a.png", picture.clone())]),
        photo,
        "the file field 'photo'",
    );
    let as_text = json!([{ "name": "image", "kind": "text" }]);
    explained(
        &server.form("/process_frame", &[text("image", "frame.png")]),
        as_text.clone(),
        "has no file name",
    );
    explained(
        &server.form(
            "/process_frame",
            &[part(r#"form-data; name="image""#, picture.as_slice())],
        ),
        as_text,
        "curl -F image=@photo.jpg",
    );
    explained(&server.form("/v1/detect", &[]), json!([]), "no field");
    let url_encoded = Some("application/x-www-form-urlencoded");
    let answer = server.post("/process_frame", url_encoded, b"image=photo.jpg");
    explained(
        &answer,
        json!([{ "name": "image", "kind": "text" }]),
        "application/x-www-form-urlencoded",
    );
    explained(
        &server.post("/process_frame", None, b""),
        json!([]),
        "there is no body",
    );

    // Enrolment.
    let answer = server.form(
        "/process-images",
        &[
            text("student_id", "alice"),
            file("image", "a.png", picture.clone()),
        ],
    );
    answer.error(400, "images_missing");
    assert_eq!(
        answer.json["details"]["received"][1],
        json!({ "name": "image", "kind": "file" })
    );
    let answer = server.form(
        "/process-images",
        &[text("name", "alice"), file("images", "a.png", picture)],
    );
    answer.error(400, "student_id_missing");
    assert!(
        answer.json["details"]["cause"]
            .as_str()
            .unwrap()
            .contains("the text field 'student_id' is wanted"),
        "{}",
        answer.json
    );
}

/// The error text of the replaced service stays, and `details.cause` explains the error.
#[test]
fn error_cause_describes_body() {
    let server = Options::drawn().start();
    let picture = drawn_jpeg("alice-probe.png");
    let cause = |answer: &Answer, text: &str, cause: &str| {
        assert_eq!(
            answer.error(400, answer.json["code"].as_str().unwrap()),
            text
        );
        let details = &answer.json["details"];
        assert!(
            details["cause"].as_str().unwrap().contains(cause) && details.to_string().len() < 500,
            "{details}"
        );
    };
    for (name, id) in [("student_id", ""), ("student_id", "  "), ("id", "")] {
        let answer = server.form(
            "/process-images",
            &[text(name, id), file("images", "a.jpg", picture.clone())],
        );
        cause(
            &answer,
            MISSING_ID,
            &format!("the text field '{name}' is empty"),
        );
    }
    for kind in [Some("application/x-www-form-urlencoded"), None] {
        let large = [picture.as_slice(), &[0; 100_000]].concat();
        for image in [&picture, &large] {
            let answer = server.post("/process-images", kind, image);
            cause(&answer, MISSING_ID, "the body is an image");
            cause(
                &answer,
                MISSING_ID,
                "curl -F student_id=ID -F images=@photo.jpg",
            );
            assert_eq!(answer.json["details"]["received"], json!([]));
            let answer = server.post("/v1/compare", kind, image);
            assert!(
                answer.json["details"]["cause"]
                    .as_str()
                    .unwrap()
                    .contains("-F a=@one.jpg"),
                "{}",
                answer.json
            );
        }
    }
    let bytes = Some("application/octet-stream");
    cause(
        &server.post("/process_frame", bytes, b""),
        MISSING_IMAGE,
        "there is no body",
    );
    cause(
        &server.post("/process_frame", bytes, b"some text"),
        UNDECODABLE,
        "not a JPEG",
    );
}

/// `curl --data-binary @photo.jpg` declares the body as a form.
#[test]
fn curl_default_type_is_accepted() {
    let server = Options::drawn().start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let url_encoded = Some("application/x-www-form-urlencoded");
    for picture in [drawn("alice-probe.png"), drawn_jpeg("alice-probe.png")] {
        for kind in [
            url_encoded,
            None,
            Some("application/octet-stream"),
            Some("Application/X-WWW-Form-Urlencoded; charset=utf-8"),
        ] {
            let answer = server.post("/process_frame", kind, &picture).ok();
            assert_eq!(
                answer["recognized_faces"][0]["identity"], "alice",
                "{kind:?}"
            );
        }
    }
    server
        .post("/process_frame", url_encoded, b"\x89PNG but no picture")
        .error(400, "undecodable_image");
}
