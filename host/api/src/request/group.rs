//! Group to which a caller restricts a search, from query and form.

use axum::http::Uri;

use rostro_service::types::{GroupIndex, Members};

use crate::error::ApiError;
use crate::request::form::Form;
use crate::request::query::{RESTRICTING, pairs, refuse_misspelt};

/// Values of `group` and `schedule_id` in a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupChoice {
    group: Option<String>,
    schedule: Option<String>,
    /// Second, different value of `schedule_id`.
    other_schedule: Option<String>,
}

impl GroupChoice {
    /// Reads a query.
    pub(crate) fn of_query(uri: &Uri) -> Result<Self, ApiError> {
        refuse_misspelt(uri)?;
        let mut choice = Self::default();
        pairs(uri).try_for_each(|(name, value)| choice.add(&name, &value))?;
        Ok(choice)
    }

    /// Adds the fields of a form.
    pub(crate) fn add_form(&mut self, form: &Form) -> Result<(), ApiError> {
        for name in RESTRICTING {
            form.values(name)
                .try_for_each(|value| self.add(name, value))?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        let is_empty = value.trim().is_empty();
        match name {
            "group" if is_empty => Err(invalid(
                "'group' is empty: name a group, or leave it out to search everybody.",
            )),
            "group" if self.group.is_some() => Err(invalid(
                "'group' is given twice: one group is searched at a time.",
            )),
            "group" => {
                self.group = Some(value.to_owned());
                Ok(())
            }
            // Clients of the replaced service send it empty where they have none.
            "schedule_id" if is_empty => Ok(()),
            "schedule_id" => {
                match &self.schedule {
                    None => self.schedule = Some(value.to_owned()),
                    Some(first) if first != value => self.other_schedule = Some(value.to_owned()),
                    Some(_) => {}
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns the name of the group and the people to search, or `None` for all people. A
    /// `schedule_id` is ignored as long as no groups exist, because the replaced service ignored it
    /// and its clients send it.
    pub(crate) fn members(
        self,
        groups: &GroupIndex,
    ) -> Result<Option<(String, Members)>, ApiError> {
        let name = match (self.group, self.schedule) {
            (Some(group), _) => group,
            (None, Some(_)) if groups.are_in_use() && self.other_schedule.is_some() => {
                return Err(invalid(
                    "'schedule_id' is given twice, with different values: one group is searched at \
                     a time.",
                ));
            }
            (None, Some(schedule)) if groups.are_in_use() => schedule,
            (None, _) => return Ok(None),
        };
        let found = name.parse().ok().and_then(|id| {
            let members = groups.members(&id)?;
            Some((id.to_string(), members))
        });
        found
            .map(Some)
            .ok_or_else(|| ApiError::unknown_group(&name))
    }
}

fn invalid(message: &str) -> ApiError {
    ApiError::bad_request("invalid_group", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(query: &str) -> Result<(Option<String>, Option<String>), &'static str> {
        let choice = GroupChoice::of_query(&format!("/process_frame?{query}").parse().unwrap())
            .map_err(|error| error.code)?;
        Ok((choice.group, choice.schedule))
    }

    #[test]
    fn second_group_is_refused() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(choice(""), Ok((None, None)));
        assert_eq!(
            choice("group=maths&x=1&schedule_id="),
            Ok((some("maths"), None))
        );
        assert_eq!(choice("group=a+b%20c"), Ok((some("a b c"), None)));
        assert_eq!(choice("schedule_id=7&schedule_id=7"), Ok((None, some("7"))));
        for refused in [
            "group=",
            "group",
            "group=+",
            "group=a&group=b",
            "group=a&group=a",
            "group=a&group=",
        ] {
            assert_eq!(choice(refused), Err("invalid_group"), "{refused}");
        }
        assert_eq!(choice("gruop=a"), Err("invalid_query"));
    }

    #[test]
    fn different_schedules_need_no_groups() {
        let uri: Uri = "/process_frame?schedule_id=7&schedule_id=8"
            .parse()
            .unwrap();
        let choose = |groups: &GroupIndex| {
            GroupChoice::of_query(&uri)
                .unwrap()
                .members(groups)
                .map_err(|error| error.code)
        };
        assert_eq!(choose(&GroupIndex::default()), Ok(None));
        let one = GroupIndex::new([("7".parse().unwrap(), Members::default())].into());
        assert_eq!(choose(&one), Err("invalid_group"));
    }
}
