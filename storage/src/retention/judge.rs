//! The judgement: from rules and what is known of a tag to what becomes of it. It reads nothing.

use std::{cmp::Reverse, collections::BinaryHeap, fmt};

use chrono::{Days, NaiveDate};

use super::rule::{Immutable, Rule};
use crate::{Digest, Tag, Time, repository::RepositorySettings};

/// What is known of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagSeen {
    /// The tag.
    pub tag: Tag,
    /// When it was pushed last.
    pub pushed_at: Time,
    /// Of a tag that is attached to a manifest by its name (`sha256-…`, signatures and the like): whether that is in the repository.
    pub attached: Option<bool>,
}

/// What becomes of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Stays(Because),
    /// It goes, by the rule with this number.
    Goes(usize),
}

/// Why a tag stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// No rule covers it.
    Uncovered,
    /// It is among the last that were pushed, by the rule with this number.
    Last(usize),
    /// It was pushed not long ago.
    Pushed(usize),
    /// It was pulled not long ago.
    Pulled(usize),
    /// It is immutable, and no rule that covers it may remove such a tag.
    Immutable,
    /// It is attached to something that is there.
    Attached,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncovered => f.write_str("no rule covers it"),
            Self::Last(rule) => write!(f, "rule {} keeps the last that were pushed", rule + 1),
            Self::Pushed(rule) => write!(f, "rule {} keeps what was pushed recently", rule + 1),
            Self::Pulled(rule) => write!(f, "rule {} keeps what was pulled recently", rule + 1),
            Self::Immutable => f.write_str("it is immutable"),
            Self::Attached => f.write_str("what it is attached to is there"),
        }
    }
}

type Pushed = (Time, Tag);

/// A rule that is for the repository and about tags, with what it has seen of them.
#[derive(Debug)]
struct Ranked<'a> {
    /// Its number among the account's rules.
    number: usize,
    rule: &'a Rule,
    /// The last that were pushed, the earliest of them on top; no more than it keeps.
    last: BinaryHeap<Reverse<Pushed>>,
}

/// Judges the tags of one repository: shown all of them first, then asked about each. What it holds does not grow with their number.
#[derive(Debug)]
pub struct Judge<'a> {
    rules: Vec<Ranked<'a>>,
    settings: &'a RepositorySettings,
    now: Time,
}

impl Ranked<'_> {
    fn covers(&self, tag: &Tag) -> bool {
        self.rule.tags.is_empty() || self.rule.tags.iter().any(|pattern| pattern.matches(tag))
    }

    fn most(&self) -> usize {
        let last = self.rule.keep.and_then(|keep| keep.last).unwrap_or_default();
        usize::try_from(last).unwrap_or(usize::MAX)
    }
}

fn within(at: NaiveDate, days: u32, now: Time) -> bool {
    at.checked_add_days(Days::new(days.into())).is_none_or(|until| until >= now.date_naive())
}

impl<'a> Judge<'a> {
    /// A judge by those of an account's `rules` that are for the repository at `path`.
    pub fn new(rules: &'a [Rule], path: &str, settings: &'a RepositorySettings, now: Time) -> Self {
        let meant = |rule: &Rule| rule.keep.is_some() && rule.repositories.matches(path);
        let rules = rules.iter().enumerate().filter(|(_, rule)| meant(rule));
        let rules = rules.map(|(number, rule)| Ranked { number, rule, last: BinaryHeap::new() }).collect();
        Self { rules, settings, now }
    }

    /// Whether no rule is about this repository's tags.
    pub fn is_idle(&self) -> bool {
        self.rules.is_empty()
    }

    /// Shows a tag, once each before the first question.
    pub fn show(&mut self, tag: &TagSeen) {
        // Attachments come and go with what they are attached to, and take no other tag's place.
        if tag.attached.is_some() {
            return;
        }
        for ranked in &mut self.rules {
            let most = ranked.most();
            if most > 0 && ranked.covers(&tag.tag) {
                ranked.last.push(Reverse((tag.pushed_at, tag.tag.clone())));
                if ranked.last.len() > most {
                    ranked.last.pop();
                }
            }
        }
    }

    /// Whether the day of the tag's last pull makes a difference.
    pub fn asks_for_pull(&self, tag: &TagSeen) -> bool {
        let pulled = |ranked: &Ranked<'_>| ranked.rule.keep.is_some_and(|keep| keep.pulled_within_days.is_some());
        self.rules.iter().any(|ranked| pulled(ranked) && ranked.covers(&tag.tag))
            && matches!(self.verdict(tag, None), Verdict::Goes(_))
    }

    /// What becomes of a tag that was pulled last on this day.
    pub fn verdict(&self, tag: &TagSeen, pulled: Option<NaiveDate>) -> Verdict {
        if tag.attached == Some(true) {
            return Verdict::Stays(Because::Attached);
        }
        let immutable = self.settings.holds(&tag.tag);
        let mut verdict = Verdict::Stays(Because::Uncovered);
        for ranked in self.rules.iter().filter(|ranked| ranked.covers(&tag.tag)) {
            let number = ranked.number;
            let keep = ranked.rule.keep.unwrap_or_default();
            let among_last =
                ranked.last.peek().is_some_and(|Reverse((at, name))| (tag.pushed_at, &tag.tag) >= (*at, name));
            if among_last && tag.attached.is_none() {
                return Verdict::Stays(Because::Last(number));
            }
            let pushed = tag.pushed_at.date_naive();
            if keep.pushed_within_days.is_some_and(|days| within(pushed, days, self.now)) {
                return Verdict::Stays(Because::Pushed(number));
            }
            let pulled = pulled.map_or(pushed, |pulled| pulled.max(pushed));
            if keep.pulled_within_days.is_some_and(|days| within(pulled, days, self.now)) {
                return Verdict::Stays(Because::Pulled(number));
            }
            let may = !immutable || ranked.rule.immutable == Immutable::MayRemove;
            verdict = match verdict {
                Verdict::Goes(_) => verdict,
                Verdict::Stays(_) if may => Verdict::Goes(number),
                Verdict::Stays(_) => Verdict::Stays(Because::Immutable),
            };
        }
        verdict
    }
}

/// The subject that a tag is attached to by its name: `sha256-HEX`, with `.sig`, `.att`, `.sbom` or nothing behind.
pub(super) fn subject_of(tag: &Tag) -> Option<Digest> {
    let name = tag.as_str();
    Digest::from_dashed(name.split_once('.').map_or(name, |(digest, _)| digest)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::retention::rule::Keep;

    const NOW: &str = "2026-11-21T12:00:00Z";

    fn seen() -> impl Strategy<Value = Vec<(TagSeen, Option<u32>)>> {
        let one = ("[ab][0-9]", 0..400_u32, any::<bool>(), proptest::option::of(0..400_u32), 0..10_u8);
        proptest::collection::btree_map("[ab][0-9]", one, 0..12).prop_map(|tags| {
            let tag = |(name, (_, age, hour, pulled, attached)): (String, _)| {
                let now: Time = NOW.parse().unwrap();
                let (age, hour, attached): (u32, bool, u8) = (age, hour, attached);
                let pushed_at = now - chrono::TimeDelta::days(age.into()) - chrono::TimeDelta::hours(hour.into());
                let pulled: Option<u32> = pulled;
                (
                    TagSeen {
                        tag: name.parse().unwrap(),
                        pushed_at,
                        attached: [Some(true), Some(false)].get(usize::from(attached)).copied().flatten(),
                    },
                    pulled,
                )
            };
            tags.into_iter().map(tag).collect()
        })
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let tags = prop_oneof![Just(vec![]), Just(vec!["a*"]), Just(vec!["b*", "a1"]), Just(vec!["*1"])];
        let days = || proptest::option::of(1..300_u32);
        let repositories = prop_oneof![Just("**"), Just("app"), Just("other")];
        (repositories, tags, proptest::option::of(0..5_u32), days(), days(), any::<bool>(), any::<bool>()).prop_map(
            |(repositories, tags, last, pushed, pulled, may, about_tags)| Rule {
                repositories: repositories.parse().unwrap(),
                tags: tags.into_iter().map(|tag| tag.parse().unwrap()).collect(),
                keep: about_tags.then_some(Keep { last, pushed_within_days: pushed, pulled_within_days: pulled }),
                untagged_days: Some(30),
                immutable: if may { Immutable::MayRemove } else { Immutable::Keep },
            },
        )
    }

    /// The rules as the page tells them, without an eye on memory.
    fn told(rules: &[Rule], settings: &RepositorySettings, all: &[(TagSeen, Option<u32>)], at: usize) -> bool {
        let now: Time = NOW.parse().unwrap();
        let (tag, pulled) = &all[at];
        let covers = |rule: &&Rule, tag: &TagSeen| {
            rule.keep.is_some()
                && rule.repositories.matches("app")
                && (rule.tags.is_empty() || rule.tags.iter().any(|p| p.matches(&tag.tag)))
        };
        let age = |at: Time| (now.date_naive() - at.date_naive()).num_days();
        let kept = |rule: &Rule| {
            let keep = rule.keep.unwrap();
            let newer = all.iter().filter(|(other, _)| {
                other.attached.is_none()
                    && covers(&rule, other)
                    && (other.pushed_at, &other.tag) > (tag.pushed_at, &tag.tag)
            });
            let pulled = pulled.map_or(i64::MAX, i64::from).min(age(tag.pushed_at));
            tag.attached.is_none() && newer.count() < keep.last.unwrap_or(0) as usize
                || keep.pushed_within_days.is_some_and(|days| age(tag.pushed_at) <= days.into())
                || keep.pulled_within_days.is_some_and(|days| pulled <= days.into())
        };
        let covering: Vec<_> = rules.iter().filter(|rule| covers(rule, tag)).collect();
        let immutable = settings.holds(&tag.tag);
        tag.attached != Some(true)
            && !covering.iter().any(|rule| kept(rule))
            && covering.iter().any(|rule| !immutable || rule.immutable == Immutable::MayRemove)
    }

    proptest! {
        #[test]
        fn a_tag_goes_when_a_rule_covers_it_and_none_keeps_it(
            rules in proptest::collection::vec(rule(), 0..4),
            tags in seen(),
            immutable in any::<bool>(),
        ) {
            let now: Time = NOW.parse().unwrap();
            let immutable_tags = if immutable { vec!["*1".parse().unwrap(), "a2".parse().unwrap()] } else { vec![] };
            let settings = RepositorySettings { immutable_tags };
            let mut judge = Judge::new(&rules, "app", &settings, now);
            for (tag, _) in &tags {
                judge.show(tag);
            }
            for (at, (tag, pulled)) in tags.iter().enumerate() {
                let day = pulled.map(|ago| now.date_naive() - Days::new(ago.into()));
                let verdict = judge.verdict(tag, day);
                prop_assert_eq!(
                    matches!(verdict, Verdict::Goes(_)), told(&rules, &settings, &tags, at), "{:?}: {:?}", tag, verdict
                );
                // The day of the pull is asked for whenever it decides.
                if !judge.asks_for_pull(tag) {
                    prop_assert_eq!(
                        matches!(verdict, Verdict::Goes(_)), matches!(judge.verdict(tag, None), Verdict::Goes(_))
                    );
                }
                if let Verdict::Goes(number) = verdict {
                    prop_assert!(rules[number].repositories.matches("app"));
                }
            }
        }

        /// One rule more keeps what the others keep.
        #[test]
        fn a_keep_of_one_rule_is_not_undone_by_another(
            rules in proptest::collection::vec(rule(), 1..4),
            more in rule(),
            tags in seen(),
        ) {
            let now: Time = NOW.parse().unwrap();
            let settings = RepositorySettings::default();
            let verdicts = |rules: &[Rule]| {
                let mut judge = Judge::new(rules, "app", &settings, now);
                for (tag, _) in &tags {
                judge.show(tag);
            }
                tags.iter().map(|(tag, _)| judge.verdict(tag, None)).collect::<Vec<_>>()
            };
            let before = verdicts(&rules);
            let after = verdicts(&[rules, vec![more]].concat());
            for (before, after) in before.into_iter().zip(after) {
                if let Verdict::Stays(Because::Last(_) | Because::Pushed(_) | Because::Pulled(_)) = before {
                    prop_assert!(matches!(after, Verdict::Stays(_)));
                }
            }
        }
    }

    #[test]
    fn a_tag_s_name_says_what_it_is_attached_to() {
        let hex = "a".repeat(64);
        for name in [format!("sha256-{hex}"), format!("sha256-{hex}.sig"), format!("sha256-{hex}.att")] {
            assert_eq!(subject_of(&name.parse().unwrap()).unwrap().hex(), hex);
        }
        for name in ["v1", "sha256-short", "sha256-short.sig"] {
            assert_eq!(subject_of(&name.parse().unwrap()), None);
        }
    }
}
