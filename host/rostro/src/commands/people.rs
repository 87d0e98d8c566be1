//! `rostro people`: asks a running service about its people.

use std::collections::HashSet;

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use rostro_common::text::sanitize;

use crate::commands::pipeline::{AdminClient, OperateError, ServiceArgs};
use crate::terminal::{new_table, render, say, say_json};

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum PeopleCommand {
    /// List people who may be one and the same under two ids, the most similar first
    Duplicates {
        /// Least similarity to list [default: that at which the active revision names a person]
        #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
        threshold: Option<f32>,
        /// Pairs to list at most
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        most: u32,
        #[command(flatten)]
        service: ServiceArgs,
    },
}

/// A page of the service's answer.
#[derive(Debug, Deserialize)]
struct Page {
    pairs: Vec<Pair>,
    threshold: f32,
    compared: usize,
    next_cursor: Option<String>,
}

/// Two people who may be one.
#[derive(Debug, Deserialize, Serialize)]
struct Pair {
    people: [String; 2],
    similarity: f32,
}

/// What the command prints as JSON.
#[derive(Debug, Serialize)]
struct Listed {
    pairs: Vec<Pair>,
    threshold: f32,
    /// How many people were compared with everybody.
    compared: usize,
    /// Whether these are all pairs.
    complete: bool,
}

/// Does what was asked for.
///
/// # Errors
///
/// If the service cannot be asked, or refuses.
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
        say(&words(&listed));
    }
    Ok(())
}

fn duplicates(
    client: &AdminClient<'_>,
    threshold: Option<f32>,
    most: usize,
) -> Result<Listed, OperateError> {
    let mut listed = Listed {
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
            // A page always goes on: one that does not is no answer of this service.
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

fn words(listed: &Listed) -> String {
    let Listed {
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
    let mut text = render(&table);
    if !complete {
        text.push_str(
            "\nthere are more; list them with --most, or only the most similar with --threshold",
        );
    }
    text
}
