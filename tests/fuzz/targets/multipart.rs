//! A form: the content type in the first line, the body below.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rostro_fuzz::{FORM, seed};

fn seeds() {
    seed(
        "form",
        format!("multipart/form-data; boundary=b\n{FORM}").as_bytes(),
    );
    seed(
        "quoted",
        format!("Multipart/Form-Data; charset=utf-8; boundary=\"b\"\n{FORM}").as_bytes(),
    );
    // More files and longer texts than the limits.
    let file = "--b\r\ncontent-disposition: form-data; name=images; filename=a\r\n\r\nx\r\n";
    seed(
        "many",
        format!(
            "multipart/form-data; boundary=b\n{}--b--\r\n",
            file.repeat(101)
        )
        .as_bytes(),
    );
    let text = "a".repeat(8193);
    let long = format!("--b\r\ncontent-disposition: form-data; name=id\r\n\r\n{text}\r\n--b--\r\n");
    seed(
        "long",
        format!("multipart/form-data; boundary=b\n{long}").as_bytes(),
    );
    seed(
        "url_encoded",
        b"application/x-www-form-urlencoded\nid=alice+b&name=%C3%A9&other=1",
    );
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let (content_type, body) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    rostro_api::request::form::property::check_multipart(content_type, body);
    rostro_api::request::form::property::check_url_encoded(body);
});
