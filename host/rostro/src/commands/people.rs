//! `rostro people`: queries the people of a running service.

use std::collections::HashSet;

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use rostro_common::text::sanitize;

use crate::commands::pipeline::{AdminClient, OperateError, ServiceArgs};
use crate::terminal::{new_table, render, say, say_json};

/// Subcommand of `rostro people`.
#[derive(Debug, Subcommand)]
pub(crate) enum PeopleCommand {
    /// List pairs of ids that may be one person, the most similar first
    Duplicates {
        /// Least similarity to list [default: the active revision's threshold]
        #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
        threshold: Option<f32>,
        /// Largest number of pairs to list
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        most: u32,
        #[command(flatten)]
        service: ServiceArgs,
    },
}

/// Page of the service's answer.
#[derive(Debug, Deserialize)]
struct Page {
    pairs: Vec<Pair>,
    threshold: f32,
    compared: usize,
    next_cursor: Option<String>,
}

/// Two ids that may be one person.
#[derive(Debug, Deserialize, Serialize)]
struct Pair {
    people: [String; 2],
    similarity: f32,
}

/// Output of the command as JSON.
#[derive(Debug, Serialize)]
struct DuplicateList {
    pairs: Vec<Pair>,
    threshold: f32,
    /// Number of people that were compared with all others.
    compared: usize,
    /// True if the list has all pairs.
    complete: bool,
}

/// Runs a command.
///
/// # Errors
///
/// If the service cannot be reached, or refuses.
pub(crate) fn run(command: PeopleCommand) -> Result<(), OperateError> {
    let PeopleCommand::Duplicates {
        threshold,
        most,
        service,
    } = command;
    let listed = duplicates(
        &AdminClient::new(&service)?,
        threshold,
        usize::try_from(most).unwrap_or(usize::MAX),
    )?;
    if service.json {
        say_json(&listed);
    } else {
        say(&text(&listed));
    }
    Ok(())
}

fn duplicates(
    client: &AdminClient<'_>,
    threshold: Option<f32>,
    most: usize,
) -> Result<DuplicateList, OperateError> {
    let mut listed = DuplicateList {
        pairs: Vec::new(),
        threshold: threshold.unwrap_or_default(),
        compared: 0,
        complete: false,
    };
    let (mut cursor, mut seen): (Option<String>, HashSet<String>) = (None, HashSet::new());
    loop {
        let mut query = form_urlencoded::Serializer::new("limit=1000".to_owned());
        if let Some(threshold) = threshold {
            query.append_pair("threshold", &threshold.to_string());
        }
        if let Some(cursor) = &cursor {
            query.append_pair("cursor", cursor);
        }
        let page: Page = client.get(&format!("/v1/duplicates?{}", query.finish()))?;
        listed.pairs.extend(page.pairs);
        listed.threshold = page.threshold;
        listed.compared += page.compared;
        cursor = page.next_cursor;
        match &cursor {
            None => {
                listed.complete = listed.pairs.len() <= most;
                break;
            }
            // A repeated cursor would loop for ever; no answer of this service has one.
            Some(cursor) if listed.pairs.len() > most || !seen.insert(cursor.clone()) => break,
            Some(_) => {}
        }
    }
    listed.pairs.sort_by(|a, b| {
        b.similarity
            .total_cmp(&a.similarity)
            .then_with(|| a.people.cmp(&b.people))
    });
    listed.pairs.truncate(most);
    Ok(listed)
}

fn text(listed: &DuplicateList) -> String {
    let DuplicateList {
        pairs,
        threshold,
        compared,
        complete,
    } = listed;
    if pairs.is_empty() {
        return format!("none of {compared} people are as similar as {threshold}");
    }
    let mut table = new_table(["SIMILARITY", "PERSON", "PERSON"]);
    for Pair {
        people: [one, other],
        similarity,
    } in pairs
    {
        table.add_row([format!("{similarity:.3}"), sanitize(one), sanitize(other)]);
    }
    let mut lines = render(&table);
    if !complete {
        lines.push_str(
            "\nthere are more; list them with --most, or only the most similar with --threshold",
        );
    }
    lines
}
