//! Faults of a working service: kills, a missing gallery, hostile pictures and failing models.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Options, Server, drawn, file, text};
use crate::operator::metrics;
use crate::revisions::{model, pack, with_alice};

/// Number of kills.
const KILLS: usize = 50;

/// Returns the number of photos of each stored person.
fn stored(gallery: &Path) -> BTreeMap<String, usize> {
    let files = gallery
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let people = files.filter(|path| path.extension().is_some_and(|ending| ending == "csv"));
    people
        .map(|path| {
            let rows = csv::Reader::from_path(&path)
                .unwrap()
                .records()
                .map(Result::unwrap)
                .count();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), rows)
        })
        .collect()
}

/// Kills during enrolments leave no person lost or half-written.
#[test]
fn kill_during_enrolment_is_atomic() {
    let gallery = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(0x5eed_0001);
    // The photos of each person after the last answered enrolment.
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    let (mut sent, mut cut_short, mut stored_whole) = (0, 0, 0);
    for round in 0..KILLS {
        let mut server = Options::drawn().gallery(gallery.path()).start();
        let log = server.log();
        assert!(!log.contains("left alone"), "round {round}: {log}");
        let (url, moment) = (server.url.clone(), Duration::from_millis(random.u64(..150)));
        let first = random.u64(..40);
        let before = answered.clone();
        let writer = std::thread::spawn(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .build()
                .into();
            let (mut done, mut under_way) = (before, None);
            for number in first.. {
                let (id, photos) = (format!("p{}", number % 40), 1 + (number % 3) as usize);
                let mut parts = vec![text("student_id", &id)];
                parts
                    .extend((1..=photos).map(|photo| {
                        file("images", "x.png", drawn(&format!("alice-{photo}.png")))
                    }));
                let body = crate::harness::multipart(&parts);
                let kind = format!("multipart/form-data; boundary={}", crate::harness::BOUNDARY);
                under_way = Some((id.clone(), photos));
                let answer = agent
                    .post(format!("{url}/process-images"))
                    .header("content-type", &kind)
                    .send(&body);
                match answer {
                    Ok(answer) if answer.status() == 200 => {
                        done.insert(id, photos);
                        under_way = None;
                    }
                    Ok(answer) => panic!("{}", answer.status()),
                    Err(_) => break,
                }
            }
            (done, under_way)
        });
        std::thread::sleep(moment);
        server.kill();
        let (done, under_way) = writer.join().unwrap();
        sent += done.len();
        cut_short += usize::from(under_way.is_some());
        answered = done;
        let on_disk = stored(gallery.path());
        for (id, rows) in &on_disk {
            let allowed = [
                answered.get(id).copied(),
                under_way
                    .as_ref()
                    .filter(|(name, _)| name == id)
                    .map(|(_, photos)| *photos),
            ];
            assert!(
                allowed.contains(&Some(*rows)),
                "round {round}: {id} has {rows} photos, not one of {allowed:?}"
            );
        }
        for id in answered.keys() {
            assert!(on_disk.contains_key(id), "round {round}: {id} is lost");
        }
        // An interrupted enrolment that was stored counts from now on.
        if let Some((id, photos)) = under_way
            && on_disk.get(&id) == Some(&photos)
        {
            stored_whole += usize::from(answered.insert(id, photos) != Some(photos));
        }
    }
    println!(
        "{KILLS} kills, {cut_short} of them during an enrolment, of which {stored_whole} were stored whole; {sent} people seen"
    );
    assert!(cut_short > KILLS / 2, "{cut_short} kills hit an enrolment");
    let server = Options::drawn().gallery(gallery.path()).start();
    let people = server.admin_get("/v1/people?limit=1000")["people"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(people, answered.len());
    assert_eq!(
        gallery
            .path()
            .read_dir()
            .unwrap()
            .filter(|entry| entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with(".unf"))
            .count(),
        0
    );
}

#[test]
fn missing_gallery_fails_enrolments_only() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = folder.path().join("gallery");
    let server = Options::drawn().gallery(&gallery).start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    std::fs::rename(&gallery, folder.path().join("elsewhere")).unwrap();
    let error = server
        .enroll("bob", [drawn("bob-1.png")])
        .error(500, "gallery_failed");
    assert!(error.contains("nothing was changed"), "{error}");
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    assert_eq!(server.names(drawn("bob-probe.png")), ["Unknown"]);
    std::fs::rename(folder.path().join("elsewhere"), &gallery).unwrap();
    server.enroll("bob", [drawn("bob-1.png")]).ok();
    assert_eq!(server.names(drawn("bob-probe.png")), ["bob"]);
}

/// Returns the peak memory of the server in MiB.
pub(crate) fn peak_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// Small files with many pixels are decoded one at a time, which bounds the memory.
#[test]
fn large_pictures_are_decoded_serially() {
    let server = Options::drawn().arg("--deadline", "120").start();
    let begun = Instant::now();
    let mut bomb = Vec::new();
    let pixels = image::RgbImage::from_pixel(6300, 6300, image::Rgb([90, 90, 90]));
    pixels
        .write_to(
            &mut std::io::Cursor::new(&mut bomb),
            image::ImageFormat::Png,
        )
        .unwrap();
    drop(pixels);
    let made = begun.elapsed();
    let answer = server.enroll("bomber", vec![bomb.clone(); 20]);
    answer.error(400, "no_usable_image");
    let peak = peak_mib(&server);
    println!(
        "twenty pictures of 6300×6300 pixels ({} kB each, made in {made:?}): {:?}, {peak} MiB at the peak",
        bomb.len() >> 10,
        begun.elapsed()
    );
    assert!(peak < 600, "{peak} MiB");
    // Two such requests run at a time, as many as there are workers.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| server.recognize(bomb.clone()).ok());
        }
    });
    let peak = peak_mib(&server);
    println!("two at a time: {peak} MiB at the peak");
    assert!(peak < 600, "{peak} MiB");
    server.recognize(drawn("alice-probe.png")).ok();
}

/// Returns a frame with a white patch, on which the failing detector fails.
pub(crate) fn with_white(name: &str) -> Vec<u8> {
    let mut picture = image::load_from_memory(&drawn(name)).unwrap().into_rgb8();
    for (x, y) in (0..32).flat_map(|x| (0..32).map(move |y| (x, y))) {
        picture.put_pixel(x, y, image::Rgb([255; 3]));
    }
    let mut png = Vec::new();
    picture
        .write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
        .unwrap();
    png
}

/// A failed run of ONNX Runtime fails its request alone, until the breaker trips.
#[test]
fn failed_run_fails_only_its_request() {
    const FRAMES: usize = 60;
    const BREAKER: usize = 3;
    let models = tempfile::tempdir().unwrap();
    pack(
        models.path(),
        "failing",
        &[
            ("detector", model("failing-detector")),
            ("recognizer", model("recognizer")),
        ],
    );
    let (server, [first, _]) = with_alice(
        Options::drawn()
            .arg("--models", models.path())
            .arg("--breaker", BREAKER.to_string()),
    );
    let sound = server.active();
    let failing = server.staged(&first, "pack=failing");
    server.activate(&failing);

    // Bad frames alternate with good ones, so that failures in a row stay below the breaker.
    let (good, bad) = (drawn("alice-probe.png"), with_white("alice-probe.png"));
    let (mut succeeded, mut failed) = (0, 0);
    std::thread::scope(|scope| {
        let background = scope.spawn(|| {
            (0..FRAMES)
                .filter(|_| server.names(good.clone()) == ["alice"])
                .count()
        });
        for _ in 0..FRAMES {
            let answer = server.recognize(bad.clone());
            let error = answer.error(500, "pipeline_failed");
            assert_eq!(error, "The pipeline failed on this request.");
            failed += 1;
            assert_eq!(server.names(good.clone()), ["alice"]);
            succeeded += 1;
        }
        succeeded += background.join().unwrap();
    });
    assert_eq!((succeeded, failed), (2 * FRAMES, FRAMES));
    assert_eq!(server.active(), failing);
    let log = server.log();
    assert!(
        log.contains("indices element out of data bounds"),
        "the log lacks the error of ONNX Runtime: {log}"
    );
    let counted = format!("rostro_revision_failures_total{{revision=\"{failing}\"}} {FRAMES}");
    let exported = metrics(&server);
    assert!(
        exported.lines().any(|line| line == counted),
        "{counted} is not in {exported}"
    );

    // The failures are now in a row: an enrolment, which fails as a whole, and frames until the
    // breaker trips.
    server
        .enroll("bob", [drawn("bob-1.png"), with_white("bob-2.png")])
        .error(500, "pipeline_failed");
    assert!(!server.gallery.join("bob.csv").exists());
    for _ in 1..BREAKER {
        assert_eq!(server.active(), failing);
        server.recognize(bad.clone()).error(500, "pipeline_failed");
    }
    assert_eq!(
        (server.active(), server.state(&failing)),
        (sound, "failed".to_owned())
    );
    assert_eq!(
        server.names(bad),
        ["alice"],
        "the previous revision fails on the white patch"
    );
    println!(
        "ONNX Runtime failing: {failed} runs failed, each with 500 pipeline_failed, {succeeded} good frames answered meanwhile; \
         taken out after {BREAKER} in a row, and the previous revision answers"
    );
}
