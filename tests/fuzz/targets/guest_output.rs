//! Output of a guest. The host accepts it only if it follows the rules of `wit/`, which are repeated
//! here.
#![no_main]

use std::collections::HashSet;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::{arbitrary, fuzz_target};
use rostro_sandbox::bindings::{
    BoundingBox, Candidate, Decision, Description, EmbeddingContract, Event, Face, Identity, Match,
    Measure, NumberRange, Outcome, Point, Probe, Purpose, RawAnalysis, RawFace, Reason,
    ReviewOutcome, Ruling, Setting, SettingType,
};
use rostro_sandbox::stream::StreamMemory;
use rostro_sandbox::types::{Analysis, AnalyzedFace};
use rostro_sandbox::validate;

/// Length of an embedding.
const DIMENSION: usize = 3;

/// Returns numbers of all kinds, valid ones more often.
fn number(from: &mut Unstructured<'_>) -> Result<f32> {
    Ok(match from.int_in_range(0..=9)? {
        0..=6 => f32::from(from.arbitrary::<u8>()?) / 8.0,
        7 => from.arbitrary::<u8>().map(|odd| {
            [
                f32::NAN,
                f32::INFINITY,
                -0.0,
                -1.0,
                f32::MIN_POSITIVE,
                f32::MAX,
                1.0,
                0.0,
            ][usize::from(odd) % 8]
        })?,
        _ => from.arbitrary()?,
    })
}

/// Returns a share from 0 to 1, or another number.
fn share(from: &mut Unstructured<'_>) -> Result<f32> {
    if from.ratio(7, 8)? {
        Ok(f32::from(from.arbitrary::<u8>()?) / 255.0)
    } else {
        number(from)
    }
}

fn several<T>(
    from: &mut Unstructured<'_>,
    most: usize,
    one: impl Fn(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = from.int_in_range(0..=most)?;
    (0..count).map(|_| one(from)).collect()
}

/// Returns a word of few letters, so that words repeat, or any text.
fn word(from: &mut Unstructured<'_>) -> Result<String> {
    if from.ratio(1, 8)? {
        return from.arbitrary();
    }
    let letters = several(from, 70, |from| {
        from.choose(&['a', 'b', '0', '_', '-', '.']).copied()
    })?;
    let short = from.ratio(3, 4)?;
    Ok(letters
        .into_iter()
        .take(if short { 2 } else { 70 })
        .collect())
}

fn embedding(from: &mut Unstructured<'_>) -> Result<Vec<f32>> {
    let length = if from.ratio(1, 8)? {
        from.int_in_range(0..=DIMENSION + 1)?
    } else {
        DIMENSION
    };
    (0..length).map(|_| number(from)).collect()
}

fn face(from: &mut Unstructured<'_>) -> Result<Face> {
    let (x1, y1) = (number(from)?, number(from)?);
    let bounds = BoundingBox {
        x1,
        y1,
        x2: x1 + number(from)?,
        y2: y1 + number(from)?,
    };
    let landmarks = if from.ratio(1, 8)? {
        from.int_in_range(0..=6)?
    } else {
        5
    };
    let landmarks = (0..landmarks)
        .map(|_| {
            Ok(Point {
                x: number(from)?,
                y: number(from)?,
            })
        })
        .collect::<Result<_>>()?;
    let measures = several(from, 40, |from| {
        Ok(Measure {
            name: word(from)?,
            value: number(from)?,
        })
    })?;
    Ok(Face {
        bounds,
        score: share(from)?,
        landmarks,
        measures,
    })
}

fn optional<T>(
    from: &mut Unstructured<'_>,
    one: impl Fn(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    Ok(if from.arbitrary()? {
        Some(one(from)?)
    } else {
        None
    })
}

fn analysis(from: &mut Unstructured<'_>) -> Result<RawAnalysis> {
    let side = |from: &mut Unstructured<'_>| {
        if from.ratio(1, 8)? {
            from.arbitrary()
        } else {
            Ok(64)
        }
    };
    let (width, height) = (side(from)?, side(from)?);
    let mut faces = several(from, 6, |from| {
        Ok(RawFace {
            face: face(from)?,
            track: optional(from, |from| from.int_in_range(0..=6))?,
            embedding: embedding(from)?,
        })
    })?;
    if from.ratio(7, 8)? {
        faces.sort_by(|a, b| area(&b.face.bounds).total_cmp(&area(&a.face.bounds)));
    }
    // More faces than an input can describe.
    if let (true, Some(last)) = (from.ratio(1, 16)?, faces.last().cloned()) {
        faces.resize(from.int_in_range(1020..=1030)?, last);
    }
    Ok(RawAnalysis {
        width,
        height,
        faces,
        state: None,
    })
}

fn area(bounds: &BoundingBox) -> f32 {
    (bounds.x2 - bounds.x1) * (bounds.y2 - bounds.y1)
}

fn assert_name(text: &str, most: usize) {
    assert!(
        (1..=most).contains(&text.len())
            && text
                .chars()
                .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-')),
        "{text:?}"
    );
}

fn assert_code(text: &str) {
    assert!(
        (1..=64).contains(&text.len())
            && text
                .chars()
                .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_')),
        "{text:?}"
    );
}

fn assert_vector(vector: &[f32]) {
    assert_eq!(vector.len(), DIMENSION);
    assert!(
        vector.iter().all(|number| number.is_finite())
            && vector.iter().any(|number| *number != 0.0),
        "{vector:?}"
    );
}

fn assert_analysis(analysis: &Analysis, purpose: Purpose, is_stream: bool) {
    let tracks: Vec<u32> = analysis
        .faces
        .iter()
        .filter_map(|face| face.track)
        .collect();
    assert!(tracks.is_empty() || is_stream);
    assert_eq!(tracks.iter().collect::<HashSet<_>>().len(), tracks.len());
    assert!(analysis.width > 0 && analysis.height > 0 && analysis.faces.len() <= 1024);
    for AnalyzedFace {
        face, embedding, ..
    } in &analysis.faces
    {
        let BoundingBox { x1, y1, x2, y2 } = face.bounds;
        assert!(
            [x1, y1, x2, y2].into_iter().all(f32::is_finite) && x1 < x2 && y1 < y2,
            "{:?}",
            face.bounds
        );
        assert!(
            x1 >= 0.0
                && y1 >= 0.0
                && f64::from(x2) <= f64::from(analysis.width)
                && f64::from(y2) <= f64::from(analysis.height)
        );
        assert!(face.score >= 0.0 && face.score <= 1.0);
        assert!(face.landmarks.is_empty() || face.landmarks.len() == 5);
        assert!(
            face.landmarks
                .iter()
                .all(|point| point.x.is_finite() && point.y.is_finite())
        );
        assert!(
            face.measures.len() <= 32
                && face
                    .measures
                    .iter()
                    .all(|measure| measure.value.is_finite())
        );
        face.measures
            .iter()
            .for_each(|measure| assert_name(&measure.name, 32));
        let names: HashSet<&str> = face
            .measures
            .iter()
            .map(|measure| measure.name.as_str())
            .collect();
        assert_eq!(names.len(), face.measures.len());
        assert!(purpose != Purpose::Recognize || !embedding.is_empty());
        if !embedding.is_empty() {
            assert_vector(embedding);
        }
    }
    let areas: Vec<f32> = analysis
        .faces
        .iter()
        .map(|analyzed| area(&analyzed.face.bounds))
        .collect();
    assert!(
        areas.iter().all(|area| area.is_finite())
            && areas.windows(2).all(|pair| pair[0] >= pair[1]),
        "{areas:?}"
    );
}

fn decisions(from: &mut Unstructured<'_>) -> Result<()> {
    let candidate = |from: &mut Unstructured<'_>| {
        Ok(Candidate {
            id: word(from)?,
            similarity: share(from)?,
        })
    };
    let probes = several(from, 5, |from| {
        Ok(Probe {
            face: face(from)?,
            track: None,
            is_fresh: true,
            candidates: several(from, 4, candidate)?,
        })
    })?;
    let decision = |from: &mut Unstructured<'_>| {
        Ok(if from.arbitrary()? {
            let candidate = if from.ratio(7, 8)? {
                from.int_in_range(0..=4)?
            } else {
                from.arbitrary()?
            };
            Decision::Known(Match {
                candidate,
                confidence: share(from)?,
            })
        } else {
            Decision::Unknown(word(from)?)
        })
    };
    let count = if from.ratio(1, 8)? {
        from.int_in_range(0..=6)?
    } else {
        probes.len()
    };
    let rulings = (0..count)
        .map(|_| {
            Ok(Ruling {
                decision: decision(from)?,
                candidates: several(from, 4, |from| from.int_in_range(0..=4))?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let events = several(from, 3, |from| {
        Ok(Event {
            code: word(from)?,
            face: optional(from, |from| from.int_in_range(0..=6))?,
            value: optional(from, number)?,
            message: word(from)?,
        })
    })?;
    let raw = Outcome {
        rulings,
        events,
        state: None,
    };
    let Ok(decisions) = validate::decisions(raw, &probes) else {
        return Ok(());
    };
    assert_eq!(decisions.rulings.len(), probes.len());
    for event in &decisions.events {
        assert_code(&event.code);
        assert!(event.face.is_none_or(|face| (face as usize) < probes.len()));
        assert!(event.value.is_none_or(f32::is_finite));
        assert!(!event.message.contains(char::is_control));
    }
    let mut identities = HashSet::new();
    for (ruling, probe) in decisions.rulings.iter().zip(&probes) {
        let shown: HashSet<&u32> = ruling.candidates.iter().collect();
        assert_eq!(shown.len(), ruling.candidates.len());
        assert!(
            shown
                .iter()
                .all(|shown| (**shown as usize) < probe.candidates.len())
        );
        match &ruling.decision {
            Decision::Known(known) => {
                assert!(known.confidence >= 0.0 && known.confidence <= 1.0);
                assert!(
                    identities.insert(&probe.candidates[known.candidate as usize].id),
                    "one person twice"
                );
            }
            Decision::Unknown(code) => assert_code(code),
        }
    }
    Ok(())
}

fn review(from: &mut Unstructured<'_>) -> Result<()> {
    let embedded = several(from, 4, |from| from.arbitrary())?;
    let raw = if from.arbitrary()? {
        ReviewOutcome::Accept(if from.ratio(7, 8)? {
            from.int_in_range(0..=4)?
        } else {
            from.arbitrary()?
        })
    } else {
        ReviewOutcome::Reject(several(from, 40, |from| {
            // Sometimes more bytes than the limit.
            let message = word(from)?.repeat(if from.ratio(1, 8)? { 300 } else { 1 });
            Ok(Reason {
                code: word(from)?,
                message,
                value: optional(from, number)?,
                limit: optional(from, number)?,
            })
        })?)
    };
    match validate::review(raw, &embedded) {
        Ok(ReviewOutcome::Accept(index)) => assert!(embedded[index as usize]),
        Ok(ReviewOutcome::Reject(reasons)) => {
            assert!((1..=32).contains(&reasons.len()));
            for reason in &reasons {
                assert_code(&reason.code);
                assert!(
                    (1..=500).contains(&reason.message.len())
                        && !reason.message.contains(char::is_control)
                );
                assert!(
                    [reason.value, reason.limit]
                        .into_iter()
                        .flatten()
                        .all(f32::is_finite)
                );
            }
        }
        Err(_) => {}
    }
    Ok(())
}

fn description(from: &mut Unstructured<'_>) -> Result<()> {
    let identity = Identity {
        name: word(from)?,
        version: word(from)?,
    };
    let models = several(from, 20, word)?;
    let recognizer = match models.first() {
        Some(first) if from.ratio(7, 8)? => first.clone(),
        _ => word(from)?,
    };
    let contract = EmbeddingContract {
        recognizer,
        alignment: word(from)?,
        preprocessing: word(from)?,
    };
    let settings = several(from, 3, |from| {
        let range = NumberRange {
            min: number(from)?.into(),
            max: number(from)?.into(),
        };
        Ok(Setting {
            name: word(from)?,
            value: match from.int_in_range(0..=4)? {
                0 => SettingType::Text,
                1 => SettingType::Flag,
                2 => SettingType::Integer(range),
                3 => SettingType::Number(range),
                _ => SettingType::Choice(several(from, 3, word)?),
            },
            default: word(from)?,
            description: word(from)?,
            by_request: from.arbitrary()?,
        })
    })?;
    let Ok(description) = validate::description::vision(Description {
        identity,
        models,
        contract: Some(contract),
        settings,
        state_version: 0,
    }) else {
        return Ok(());
    };
    let names: HashSet<&str> = description
        .settings
        .iter()
        .map(|setting| setting.name.as_str())
        .collect();
    assert_eq!(names.len(), description.settings.len());
    for setting in &description.settings {
        assert_name(&setting.name, 64);
        assert!(!setting.description.is_empty());
        // Resolving the defaults cannot fail.
        rostro_sandbox::settings::declared::check(setting, &setting.default).unwrap();
    }
    let contract = description.contract.as_ref().unwrap();
    assert_name(&description.identity.name, 64);
    let version = &description.identity.version;
    assert!(
        (1..=64).contains(&version.len())
            && version
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c)),
        "{version:?}"
    );
    assert!(description.models.len() <= 16 && description.models.contains(&contract.recognizer));
    description
        .models
        .iter()
        .for_each(|role| assert_name(role, 32));
    assert_eq!(
        description.models.iter().collect::<HashSet<_>>().len(),
        description.models.len()
    );
    for text in [&contract.alignment, &contract.preprocessing] {
        assert!(
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()),
            "{text:?}"
        );
    }
    Ok(())
}

fn one(from: &mut Unstructured<'_>) -> Result<()> {
    match from.int_in_range(0..=4)? {
        0 => {
            let purpose = *from.choose(&[Purpose::Recognize, Purpose::Enroll, Purpose::Detect])?;
            let stream = from.arbitrary()?;
            let memory = StreamMemory::default();
            let memory = Some(&memory).filter(|_| stream);
            if let Ok(taken) = validate::analysis(analysis(from)?, DIMENSION, purpose, memory) {
                assert_analysis(&taken, purpose, stream);
            }
        }
        1 => decisions(from)?,
        2 => review(from)?,
        3 => description(from)?,
        _ => {
            if let Ok(taken) = validate::templates(several(from, 20, embedding)?, DIMENSION) {
                assert!((1..=16).contains(&taken.len()));
                taken.iter().for_each(|template| assert_vector(template));
            }
        }
    }
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    // Missing bytes give zeros and not an error; other errors have no meaning.
    let _ = one(&mut Unstructured::new(input));
});
