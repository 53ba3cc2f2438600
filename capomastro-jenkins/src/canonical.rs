//! One key may have several builds: people copy builds with all their parameters, and Jenkins may run an item twice after a
//! crash. Which of them counts.

use crate::wire::Build;

/// The build that stands for a key, among those that carry it: the first that nobody copied, unless Jenkins stopped it in
/// a crash and ran its queue item once more.
pub(crate) fn canonical<'a>(twins: impl IntoIterator<Item = &'a Build>) -> Option<&'a Build> {
    let mut twins: Vec<&Build> = twins.into_iter().collect();
    twins.sort_by_key(|b| (b.is_copy(), b.number));
    let first = *twins.first()?;
    let mut chosen = first;
    while is_cut_off(chosen)
        && let Some(next) =
            twins.iter().find(|b| b.number > chosen.number && b.queue_id == chosen.queue_id && !b.is_copy())
    {
        chosen = next;
    }
    Some(chosen)
}

/// Whether the record is what a crash leaves of a running build whose record was saved early.
pub(crate) fn is_cut_off(build: &Build) -> bool {
    build.has_ended()
        && build.result.as_deref() == Some("ABORTED")
        && !build.is_interrupted
        && build.duration == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(number: u64, queue_id: u64) -> Build {
        Build { number, queue_id: Some(queue_id), is_building: true, ..Build::default() }
    }

    fn cut_off(number: u64, queue_id: u64) -> Build {
        Build { is_building: false, result: Some("ABORTED".into()), ..build(number, queue_id) }
    }

    fn copied(number: u64, queue_id: u64) -> Build {
        Build { causes: vec!["com.sonyericsson.rebuild.RebuildCause".into()], ..build(number, queue_id) }
    }

    #[test]
    fn one_build_stands_for_a_key() {
        let aborted = |number| Build { is_interrupted: true, ..cut_off(number, 1) };
        let long = |number| Build { duration: 9, ..cut_off(number, 1) };
        for (twins, number) in [
            (vec![], None),
            (vec![build(3, 1)], Some(3)),
            (vec![build(5, 2), build(3, 1)], Some(3)),
            (vec![copied(2, 1), build(3, 2)], Some(3)),
            (vec![copied(2, 1)], Some(2)),
            (vec![cut_off(3, 1)], Some(3)),
            (vec![cut_off(3, 1), build(4, 1)], Some(4)),
            (vec![cut_off(3, 1), cut_off(4, 1), build(6, 1)], Some(6)),
            (vec![cut_off(3, 1), build(4, 2)], Some(3)),
            (vec![cut_off(3, 1), copied(4, 1)], Some(3)),
            (vec![aborted(3), build(4, 1)], Some(3)),
            (vec![long(3), build(4, 1)], Some(3)),
        ] {
            assert_eq!(canonical(&twins).map(|b| b.number), number, "{twins:?}");
        }
    }
}
