//! A bounded queue that is fair to sources: whoever has much waiting waits, and gives up places first.
//!
//! Start-time fair queueing: each job gets a tag, one more than the last of its source or than the job last taken, whichever
//! is later. Jobs are taken in the order of their tags, so that a source with one job is before the second of any other.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

pub(super) struct Queue<J> {
    waiting: BTreeMap<(u64, u64), Waiting<J>>,
    /// Each source's last tag.
    last: HashMap<IpAddr, u64>,
    /// The tag last taken.
    taken: u64,
    /// Keeps jobs of one tag in their order.
    sequence: u64,
    /// How many of those that wait can be shed. Only they take up places: a source that has begun much would else leave
    /// none for what others have not begun.
    sheddable: usize,
    capacity: usize,
}

struct Waiting<J> {
    job: J,
    sheddable: bool,
}

impl<J> Queue<J> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            waiting: BTreeMap::new(),
            last: HashMap::new(),
            taken: 0,
            sequence: 0,
            sheddable: 0,
            capacity,
        }
    }

    /// Adds a job. If there is no place, gives back the sheddable one that would wait longest, which may be this one; what
    /// can't be shed needs none.
    pub(super) fn push(&mut self, source: IpAddr, sheddable: bool, job: J) -> Option<J> {
        let last = self.last.entry(source).or_default();
        let tag = self.taken.max(*last) + 1;
        *last = tag;
        self.sequence += 1;
        self.waiting
            .insert((tag, self.sequence), Waiting { job, sheddable });
        self.sheddable += usize::from(sheddable);
        let shed = if self.sheddable > self.capacity {
            self.shed()
        } else {
            None
        };
        self.forget();
        shed
    }

    /// Takes the next job.
    pub(super) fn pop(&mut self) -> Option<J> {
        let ((tag, _), waiting) = self.waiting.pop_first()?;
        self.taken = tag;
        self.sheddable -= usize::from(waiting.sheddable);
        Some(waiting.job)
    }

    /// Jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Places for those that can be shed.
    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    fn shed(&mut self) -> Option<J> {
        let longest = self
            .waiting
            .iter()
            .rev()
            .find(|(_, waiting)| waiting.sheddable)
            .map(|(place, _)| *place)?;
        self.sheddable -= 1;
        self.waiting.remove(&longest).map(|waiting| waiting.job)
    }

    /// A source whose last tag has been taken is as good as a new one.
    fn forget(&mut self) {
        if self.last.len() > 2 * self.capacity {
            let taken = self.taken;
            self.last.retain(|_, last| *last > taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    fn drain(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn a_source_with_one_job_is_before_the_second_of_any_other() {
        let mut queue = Queue::new(10);
        for job in ["a1", "a2", "a3"] {
            assert_eq!(queue.push(source(1), true, job), None);
        }
        assert_eq!(queue.pop(), Some("a1"));
        assert_eq!(queue.push(source(2), true, "b1"), None);
        assert_eq!(queue.push(source(3), true, "c1"), None);
        assert_eq!(drain(&mut queue), ["a2", "b1", "c1", "a3"]);
    }

    #[test]
    fn the_source_with_the_most_jobs_gives_up_places_first() {
        let mut queue = Queue::new(3);
        for job in ["a1", "a2", "a3"] {
            assert_eq!(queue.push(source(1), true, job), None);
        }
        assert_eq!(queue.push(source(2), true, "b1"), Some("a3"));
        assert_eq!(queue.push(source(1), true, "a4"), Some("a4"));
        assert_eq!(drain(&mut queue), ["a1", "b1", "a2"]);
    }

    #[test]
    fn what_has_begun_is_never_shed_and_takes_up_no_place() {
        let mut queue = Queue::new(1);
        for job in ["a1", "a2", "a3"] {
            assert_eq!(queue.push(source(1), false, job), None);
        }
        assert_eq!(queue.push(source(2), true, "b1"), None);
        assert_eq!(queue.push(source(2), true, "b2"), Some("b2"));
        assert_eq!(drain(&mut queue), ["a1", "b1", "a2", "a3"]);
        assert_eq!(queue.push(source(2), true, "b3"), None);
    }

    #[test]
    fn sources_are_forgotten_once_they_have_nothing_waiting() {
        let mut queue = Queue::new(4);
        for number in 0..200 {
            queue.push(source(number), true, "job");
            queue.pop();
        }
        assert!(queue.last.len() <= 9, "{}", queue.last.len());
    }
}
