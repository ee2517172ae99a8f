//! What rules decide about sources.

use buildkit_sourcepolicy::{Engine, Error, MAX_CHANGES, MAX_IDENTIFIER, MAX_REGEXES, MAX_RULES, Source};
use buildkit_sourcepolicy_pb::{
    AttrConstraint, AttrMatch, MatchType, Policy, PolicyAction, Rule, Selector, Update,
};
use proptest::prelude::*;

fn selector(kind: MatchType, identifier: &str) -> Selector {
    Selector { identifier: identifier.to_owned(), match_type: kind.into(), constraints: Vec::new() }
}

fn rule(action: PolicyAction, selector: Selector) -> Rule {
    Rule { action: action.into(), selector: Some(selector), updates: None }
}

fn allow(identifier: &str) -> Rule {
    rule(PolicyAction::Allow, selector(MatchType::Wildcard, identifier))
}

fn deny(identifier: &str) -> Rule {
    rule(PolicyAction::Deny, selector(MatchType::Wildcard, identifier))
}

fn convert(kind: MatchType, from: &str, to: &str, attrs: &[(&str, &str)]) -> Rule {
    let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let updates = Some(Update { identifier: to.to_owned(), attrs });
    Rule { updates, ..rule(PolicyAction::Convert, selector(kind, from)) }
}

fn swap(from: &str, to: &str) -> Rule {
    convert(MatchType::Wildcard, from, to, &[])
}

fn source(identifier: &str, attrs: &[(&str, &str)]) -> Source {
    let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Source { attrs: attrs.collect(), ..Source::new(identifier) }
}

fn engine(policies: &[&[Rule]]) -> Engine {
    let policies = policies.iter().map(|rules| Policy { version: 1, rules: rules.to_vec() });
    Engine::new(&policies.collect::<Vec<_>>()).expect("policies")
}

/// The source after the policies, whether they say that they changed it, or what is wrong.
#[track_caller]
fn check(policies: &[&[Rule]], identifier: &str, expect: Result<&str, &str>) {
    let mut source = Source::new(identifier);
    let changed = engine(policies).evaluate(&mut source).map_err(|error| error.to_string());
    match (changed, expect) {
        (Ok(changed), Ok(expect)) => {
            assert_eq!(source.identifier, expect);
            assert_eq!(changed, identifier != expect);
        }
        (Err(error), Err(expect)) => assert_eq!(error, expect),
        (got, expect) => panic!("{got:?} is not {expect:?}"),
    }
}

const DENIED: &str = "source \"a\" denied by policy: source denied by policy";

#[test]
fn the_last_rule_that_matches_decides() {
    check(&[], "a", Ok("a"));
    check(&[&[]], "a", Ok("a"));
    check(&[&[deny("b")]], "a", Ok("a"));
    check(&[&[deny("a")]], "a", Err(DENIED));
    check(&[&[deny("*")]], "a", Err(DENIED));
    check(&[&[allow("a"), deny("a")]], "a", Err(DENIED));
    check(&[&[deny("a"), allow("a")]], "a", Ok("a"));
    check(&[&[deny("*"), allow("a"), deny("b")]], "a", Ok("a"));
    // A denial of one policy is not taken back by another.
    check(&[&[deny("a")], &[allow("a")]], "a", Err(DENIED));
    check(&[&[allow("a")], &[deny("a")]], "a", Err(DENIED));
}

#[test]
fn what_takes_the_place_of_a_source_is_judged_from_the_start() {
    check(&[&[swap("a", "b")]], "a", Ok("b"));
    check(&[&[swap("a", "b"), swap("b", "c")]], "a", Ok("c"));
    check(&[&[swap("b", "c"), swap("a", "b")]], "a", Ok("c"));
    check(&[&[swap("b", "c")], &[swap("a", "b")]], "a", Ok("c"));
    // A denial that something else comes after does not count yet.
    check(&[&[deny("a"), swap("a", "b")]], "a", Ok("b"));
    check(&[&[deny("*"), allow("b"), swap("a", "b")]], "a", Ok("b"));
    check(
        &[&[swap("a", "b"), deny("b")]],
        "a",
        Err("source \"b\" denied by policy: source denied by policy"),
    );
    // But in an earlier policy it does.
    check(&[&[deny("a")], &[swap("a", "b")]], "a", Err(DENIED));
    // What changes nothing is passed over.
    check(&[&[swap("a", "a"), deny("a")]], "a", Err(DENIED));
}

#[test]
fn sources_do_not_change_for_ever() {
    let too_many = "too many mutations on a single source: too many operations";
    check(&[&[swap("a", "b"), swap("b", "a")]], "a", Err(too_many));
    check(&[&[swap("*", "${1}x")]], "a", Err(too_many));
    let chain = |length: usize| -> Vec<Rule> {
        (0..length).map(|at| swap(&format!("s{at}"), &format!("s{}", at + 1))).collect()
    };
    check(&[&chain(MAX_CHANGES)], "s0", Ok("s20"));
    check(&[&chain(MAX_CHANGES + 1)], "s0", Err(too_many));
    let error = engine(&[&[swap("*", &"${1}".repeat(20))]]).evaluate(&mut Source::new("aaaa"));
    let Err(Error::Convert(text)) = error else { panic!("{error:?}") };
    assert_eq!(
        text,
        format!("error formatting destination: identifier has more than {MAX_IDENTIFIER} bytes")
    );
}

#[test]
fn identifiers_are_made_of_what_matched() {
    let golang = "docker-image://docker.io/library/golang:1.19";
    let converted = |kind, from: &str, to: &str| {
        let mut source = Source::new(golang);
        engine(&[&[convert(kind, from, to, &[])]]).evaluate(&mut source).map(|_| source.identifier)
    };
    for (kind, from, to, expect) in [
        (
            MatchType::Wildcard,
            "docker-image://docker.io/library/golang:*",
            "docker-image://docker.io/library/go:${1}-alpine",
            "docker-image://docker.io/library/go:1.19-alpine",
        ),
        (
            MatchType::Wildcard,
            "docker-image://*/golang:*",
            "docker-image://r/$2-of-${1}",
            "docker-image://r/1.19-of-docker.io/library",
        ),
        (MatchType::Wildcard, "*golang*", "${1}go${2}", "docker-image://docker.io/library/go:1.19"),
        (MatchType::Exact, golang, "oci-layout://${1}", "oci-layout://${1}"),
        (MatchType::Exact, "docker-image://*", "local://a", golang),
        (
            MatchType::Regex,
            r"^docker-image://docker\.io/(?P<name>[a-z/]+):(\d)\.\d+$",
            "docker-image://mirror/${name}:$2",
            "docker-image://mirror/library/golang:1",
        ),
        // It need not match all of it.
        (MatchType::Regex, r"\.io", ".example", "docker-image://docker.example/library/golang:1.19"),
        (MatchType::Wildcard, "*", "", golang),
        (MatchType::Regex, "^.*$", "", golang),
        (MatchType::Wildcard, "docker-image://*", "${9}", golang),
    ] {
        assert_eq!(converted(kind, from, to).as_deref(), Ok(expect), "{kind:?} {from} {to}");
    }
}

#[test]
fn attributes_select_and_are_set() {
    let holds = |condition: AttrMatch, key: &str, value: &str, attrs: &[(&str, &str)]| {
        let constraint =
            AttrConstraint { key: key.to_owned(), value: value.to_owned(), condition: condition.into() };
        let selector = Selector { constraints: vec![constraint], ..selector(MatchType::Exact, "http://x") };
        let rules = [rule(PolicyAction::Deny, selector)];
        engine(&[&rules]).evaluate(&mut source("http://x", attrs)).is_err()
    };
    let attrs = &[("a", "1")][..];
    assert!(holds(AttrMatch::Equal, "a", "1", attrs) && !holds(AttrMatch::Equal, "a", "2", attrs));
    assert!(holds(AttrMatch::Notequal, "a", "2", attrs) && !holds(AttrMatch::Notequal, "a", "1", attrs));
    assert!(holds(AttrMatch::Matches, "a", "^[0-9]$", attrs) && !holds(AttrMatch::Matches, "a", "^$", attrs));
    // One that is missing is empty.
    assert!(holds(AttrMatch::Equal, "b", "", attrs) && holds(AttrMatch::Matches, "b", "^$", attrs));

    let pin = convert(MatchType::Exact, "http://x", "", &[("http.checksum", "sha256:1"), ("a", "2")]);
    let mut changed = source("http://x", attrs);
    assert_eq!(engine(&[std::slice::from_ref(&pin)]).evaluate(&mut changed), Ok(true));
    assert_eq!(changed, source("http://x", &[("a", "2"), ("http.checksum", "sha256:1")]));
    // Once they are as they are to be, nothing changes.
    assert_eq!(engine(&[&[pin]]).evaluate(&mut changed), Ok(false));
}

#[test]
fn rules_that_make_no_sense_are_errors_of_what_they_are_asked_about() {
    let evaluate = |rule: Rule, identifier: &str| {
        engine(&[&[rule]]).evaluate(&mut Source::new(identifier)).map_err(|error| error.to_string())
    };
    let with = |constraint: AttrConstraint| {
        let selector = Selector { constraints: vec![constraint], ..selector(MatchType::Exact, "a") };
        rule(PolicyAction::Deny, selector)
    };
    let unknown_match = Selector { match_type: 7, ..selector(MatchType::Exact, "b") };
    let regex = |text: &str| rule(PolicyAction::Deny, selector(MatchType::Regex, text));
    for (rule, expect) in [
        (Rule { action: 9000, ..allow("a") }, "source policy: rule 9000 a: unknown type \"a\""),
        (
            rule(PolicyAction::Convert, selector(MatchType::Exact, "a")),
            "error mutating source policy: missing destination for convert rule",
        ),
        (rule(PolicyAction::Allow, unknown_match), "error matching source policy: unknown match type: 7"),
        (
            with(AttrConstraint { condition: 8, ..AttrConstraint::default() }),
            "error matching source policy: unknown attr condition: 8",
        ),
        (
            deny("b**"),
            "error matching source policy: failed to translate wildcard \"b**\" to regexp: invalid wildcard: \
             \"**\"",
        ),
        (regex("("), "error matching source policy: error parsing regexp: unclosed group: `(`"),
    ] {
        assert_eq!(evaluate(rule, "a"), Err(expect.to_owned()));
    }
    let matches = AttrMatch::Matches.into();
    let error = evaluate(
        with(AttrConstraint { value: "[".to_owned(), condition: matches, ..AttrConstraint::default() }),
        "a",
    );
    assert!(error.expect_err("no regex").starts_with("error matching source policy: invalid regex \"[\": "));
    // Those that they are not asked about are fine.
    assert_eq!(evaluate(Rule { action: 9000, ..allow("a") }, "b"), Ok(false));
    assert_eq!(evaluate(allow("b**"), "b**"), Ok(false));
    let nothing = Policy { version: 1, rules: vec![Rule::default()] };
    let error = Engine::new([&nothing]).expect_err("selects nothing");
    assert_eq!(error, Error::Invalid("invalid nil selector in policy".to_owned()));
}

#[test]
fn policies_and_sources_are_limited() {
    let too_large =
        |rules: Vec<Rule>| matches!(Engine::new([&Policy { version: 1, rules }]), Err(Error::TooLarge(_)));
    let regex = |at: usize| rule(PolicyAction::Deny, selector(MatchType::Regex, &format!("^x{at}$")));
    assert!(!too_large(vec![deny("b"); MAX_RULES]) && too_large(vec![deny("b"); MAX_RULES + 1]));
    assert!(!too_large((0..MAX_REGEXES).map(regex).collect()));
    assert!(too_large((0..=MAX_REGEXES).map(regex).collect()));
    let long = "a".repeat(MAX_IDENTIFIER + 1);
    assert!(too_large(vec![deny(&long)]) && too_large(vec![swap("a", &long)]));
    assert!(too_large(vec![convert(MatchType::Exact, "a", "b", &[("k", &long)])]));
    let error = engine(&[&[deny("b")]]).evaluate(&mut Source::new(long.clone())).expect_err("too long");
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
    // Several policies count together.
    let half = Policy { version: 1, rules: vec![deny("b"); MAX_RULES / 2 + 1] };
    assert!(matches!(Engine::new([&half, &half]), Err(Error::TooLarge(_))));
    // Without rules nothing is looked at.
    assert_eq!(Engine::default().evaluate(&mut Source::new(long)), Ok(false));
}

#[test]
fn engines_are_joined_in_order() {
    let (first, second) = (engine(&[&[swap("a", "b")]]), engine(&[&[swap("a", "c")]]));
    for (engine, expect) in [(first.then(&second), "b"), (second.then(&first), "c")] {
        let mut source = Source::new("a");
        engine.evaluate(&mut source).expect("allowed");
        assert_eq!(source.identifier, expect);
    }
    assert!(Engine::default().then(&Engine::default()).is_empty());
    assert!(!Engine::default().then(&first).is_empty());
}

fn some_rule() -> impl Strategy<Value = Rule> {
    // Of few letters, so that much of it matches.
    let pattern = prop_oneof!["[ab:/*]{0,6}", "[ab().*+?|\\[\\]^$\\\\{}:-]{0,8}", ".{0,6}"];
    let updates = prop_oneof!["[ab:/]{0,4}", "([ab$]|\\$\\{[0-9a]{0,2}\\}?){0,4}", ".{0,6}"];
    let constraint = ("[ab]?", "[ab.*(]{0,3}", -1..4_i32)
        .prop_map(|(key, value, condition)| AttrConstraint { key, value, condition });
    (
        -1..4_i32,
        proptest::option::weighted(0.95, (pattern, -1..4_i32, proptest::collection::vec(constraint, 0..2))),
        proptest::option::weighted(0.8, (updates, proptest::collection::btree_map("[ab]?", "[ab]?", 0..2))),
    )
        .prop_map(|(action, selector, updates)| Rule {
            action,
            selector: selector.map(|(identifier, match_type, constraints)| Selector {
                identifier,
                match_type,
                constraints,
            }),
            updates: updates.map(|(identifier, attrs)| Update { identifier, attrs }),
        })
}

proptest! {
    /// Whatever the rules, evaluating them ends, and what it ends with is what they leave alone.
    #[test]
    fn evaluating_ends(
        policies in proptest::collection::vec(proptest::collection::vec(some_rule(), 0..6), 0..4),
        identifier in prop_oneof!["[ab:/]{0,6}", ".{0,12}"],
        attrs in proptest::collection::btree_map("[ab]?", "[ab]?", 0..2),
    ) {
        let policies: Vec<_> = policies.into_iter().map(|rules| Policy { version: 1, rules }).collect();
        let mut source = Source { identifier, attrs };
        let before = source.clone();
        let Ok(engine) = Engine::new(&policies) else { return Ok(()) };
        if let Ok(changed) = engine.evaluate(&mut source) {
            prop_assert!(changed || source == before);
            prop_assert!(source.identifier.len() <= MAX_IDENTIFIER);
            prop_assert_eq!(engine.clone().evaluate(&mut source), Ok(false));
        }
    }
}
