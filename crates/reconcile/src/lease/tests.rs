use super::*;

#[test]
fn names_are_made_legal() {
    assert_eq!(legal_name("..a..B_c-.."), "a.b-c");
    assert_eq!(legal_name("///"), "lease");
    let long = legal_name(&"Ab.".repeat(200));
    assert!(
        long.len() <= 253 && long.starts_with("ab.ab") && !long.contains(".-"),
        "{long}"
    );
    assert_ne!(long, legal_name(&"Ab.".repeat(201)));
}

#[test]
fn the_deadline_of_writes_ends_before_others_may_take_over() {
    let lease = Lease::new("a", "b", "c");
    assert!(lease.deadline() + lease.period() < lease.duration);
}

#[test]
fn a_renewal_keeps_when_it_was_acquired_and_a_take_over_counts() {
    let at = |second| jiff::Timestamp::from_second(second).unwrap_or_default();
    let (one, two) = (Lease::new("a", "b", "one"), Lease::new("a", "b", "two"));
    let first = one.object(None, at(1));
    let renewed = one.object(Some(&first), at(2));
    let taken = two.object(Some(&renewed), at(3));
    let spec = |object: &Object| object.spec.clone().unwrap_or_default();
    assert_eq!(spec(&renewed).acquire_time, Some(MicroTime(at(1))));
    assert_eq!(spec(&renewed).lease_transitions, Some(0));
    assert_eq!(spec(&taken).acquire_time, Some(MicroTime(at(3))));
    assert_eq!(spec(&taken).lease_transitions, Some(1));
}
