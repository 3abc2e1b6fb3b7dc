//! The audit trail shows what was done to it.

use super::*;
use crate::audit::{Broken, Hash, Verifier, Why, verify};

fn trail() -> Vec<AuditRow> {
    let mut world = World::new();
    for label in ["1", "2", "3"] {
        world.issue(label, label).unwrap();
    }
    let refused = RegistryError::KeyOfCa(world.ca("own").id);
    let event = Event::refused(Attempt::Issue, &refused, 3, Actor::Unknown("192.0.2.1".into()), world.now);
    world.rows.push(world.rows.last().unwrap().head().next(&event));
    assert!(world.rows.len() > 10);
    world.rows
}

fn broken(rows: &[AuditRow], seq: u64, why: Why) {
    assert_eq!(verify(rows, None), Err(Broken { seq, why }));
}

#[test]
fn an_untouched_trail_is_whole_and_gives_its_head() {
    let rows = trail();
    let head = rows.last().unwrap().head();
    assert_eq!(verify(&rows, None), Ok(head));
    assert_eq!(verify(&rows, Some(head)), Ok(head));
    assert_eq!(verify(&rows, Some(rows[3].head())), Ok(head), "an older head is known");
    assert_eq!(verify(&[] as &[AuditRow], None), Ok(Head::EMPTY));
    assert_eq!(head.to_string().parse::<Head>(), Ok(head));
}

#[test]
fn an_edited_row_is_found_whatever_was_edited() {
    let rows = trail();
    for index in 0..rows.len() {
        let seq = rows[index].seq;
        for place in [0, rows[index].event.len() / 2, rows[index].event.len() - 1] {
            let mut edited = rows.clone();
            let mut bytes = std::mem::take(&mut edited[index].event).into_bytes();
            bytes[place] ^= 1;
            edited[index].event = String::from_utf8(bytes).unwrap();
            broken(&edited, seq, Why::Edited);
        }
        let mut edited = rows.clone();
        edited[index].hash = Hash::from_bytes([7; 32]);
        broken(&edited, seq, Why::Edited);
        let mut edited = rows.clone();
        edited[index].previous = Hash::from_bytes([7; 32]);
        broken(&edited, seq, Why::Link);
    }
}

#[test]
fn a_row_that_is_edited_and_hashed_again_breaks_the_next_link() {
    let mut rows = trail();
    let before = rows[4].head();
    rows[5] = before.next(&rows[6].decode().unwrap());
    broken(&rows, 7, Why::Link);
}

#[test]
fn a_removed_row_is_found_and_so_is_one_whose_successors_were_renumbered() {
    let rows = trail();
    let mut removed = rows.clone();
    removed.remove(4);
    broken(&removed, 5, Why::Sequence { found: 6 });
    for row in &mut removed[4..] {
        row.seq -= 1;
    }
    broken(&removed, 5, Why::Link);
}

#[test]
fn reordered_and_repeated_rows_are_found() {
    let rows = trail();
    let mut swapped = rows.clone();
    swapped.swap(4, 5);
    broken(&swapped, 5, Why::Sequence { found: 6 });
    let (four, five) = (swapped[4].seq, swapped[5].seq);
    swapped[4].seq = five;
    swapped[5].seq = four;
    broken(&swapped, 5, Why::Link);
    let mut repeated = rows.clone();
    repeated.insert(5, rows[4].clone());
    broken(&repeated, 6, Why::Sequence { found: 5 });
}

#[test]
fn a_trail_that_was_cut_off_or_rewritten_is_found_by_a_head_that_is_known() {
    let rows = trail();
    let head = rows.last().unwrap().head();
    let cut = &rows[..rows.len() - 1];
    assert!(verify(cut, None).is_ok(), "the rows alone do not show it");
    assert_eq!(verify(cut, Some(head)), Err(Broken { seq: head.seq, why: Why::CutOff }));

    let mut rewritten: Vec<AuditRow> = Vec::new();
    for row in &rows {
        let mut event = row.decode().unwrap();
        event.at = Wall(event.at.0 + 1);
        rewritten.push(rewritten.last().map_or(Head::EMPTY, AuditRow::head).next(&event));
    }
    assert!(verify(&rewritten, None).is_ok());
    assert_eq!(verify(&rewritten, Some(rows[3].head())), Err(Broken { seq: 4, why: Why::Rewritten }));
}

#[test]
fn a_part_of_a_trail_is_verified_from_a_head_that_is_known() {
    let rows = trail();
    let mut verifier = Verifier::new(rows[3].head(), None);
    for row in &rows[4..] {
        verifier.push(row).unwrap();
    }
    assert_eq!(verifier.finish(), Ok(rows.last().unwrap().head()));
    let mut verifier = Verifier::new(rows[3].head(), None);
    assert!(verifier.push(&rows[5]).is_err());
}
