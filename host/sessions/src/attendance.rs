//! Attendance as CSV, for spreadsheets.

use std::io;

use jiff::Timestamp;

use crate::presence::PresenceStatus;
use crate::session::SessionView;

/// Columns of the file.
const COLUMNS: [&str; 7] = [
    "person",
    "status",
    "first_seen",
    "last_seen",
    "times_seen",
    "best_similarity",
    "corrected_by",
];

/// Returns the attendance of a session as CSV: a row for each person, ordered by id.
///
/// # Errors
///
/// Never in practice, because it writes to memory.
pub fn attendance_csv(view: &SessionView) -> io::Result<Vec<u8>> {
    let mut people: Vec<_> = view.people().collect();
    people.sort_by_key(|person| &person.id);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for person in people {
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
        let corrected_by = person
            .correction
            .as_ref()
            .and_then(|correction| correction.by.as_deref());
        writer.write_record([
            without_formula(person.id.as_str()),
            status(person.status).to_owned(),
            time(person.first_seen),
            time(person.last_seen),
            person.times_seen.to_string(),
            person
                .best_similarity
                .map(|similarity| similarity.to_string())
                .unwrap_or_default(),
            without_formula(corrected_by.unwrap_or_default()),
        ])?;
    }
    writer.into_inner().map_err(csv::IntoInnerError::into_error)
}

/// Returns a text that a spreadsheet does not run as a formula.
fn without_formula(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

fn status(status: PresenceStatus) -> &'static str {
    match status {
        PresenceStatus::Present => "present",
        PresenceStatus::Late => "late",
        PresenceStatus::Uncertain => "uncertain",
        PresenceStatus::Absent => "absent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::CorrectedStatus;
    use crate::session::Session;
    use crate::testing::{at, frame, head, person};

    #[test]
    fn csv_lists_attendance() {
        let mut session = Session::new(head(), 100);
        session.apply(&session.start());
        for second in [10, 11] {
            let frame = frame(second, &["zoé", "+1", "b,c"]);
            session.apply(&session.observe(&frame, at(second)).unwrap());
        }
        let corrected = [
            (person("zoé"), CorrectedStatus::Late, Some("=desk")),
            (person("dan"), CorrectedStatus::Present, None),
        ];
        for (id, status, by) in corrected {
            session.apply(&session.correct(&id, Some(status), by, at(20)));
        }
        let csv = attendance_csv(&session.view(&[person("@eve")])).unwrap();
        assert_eq!(
            String::from_utf8(csv).unwrap(),
            "person,status,first_seen,last_seen,times_seen,best_similarity,corrected_by\n\
             '+1,present,1970-01-01T00:00:10Z,1970-01-01T00:00:11Z,2,0.75,\n\
             '@eve,absent,,,0,,\n\
             \"b,c\",present,1970-01-01T00:00:10Z,1970-01-01T00:00:11Z,2,0.75,\n\
             dan,present,,,0,,\n\
             zoé,late,1970-01-01T00:00:10Z,1970-01-01T00:00:11Z,2,0.75,'=desk\n"
        );
    }

    #[test]
    fn formula_gets_apostrophe() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("-a", "'-a"),
            ("a-b", "a-b"),
            ("", ""),
            ("'a", "'a"),
        ] {
            assert_eq!(without_formula(text), cell);
        }
    }
}
