//! Who follows what, what of it may have changed, and what each was not told yet. No I/O.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    mem::take,
    sync::Arc,
};

use ordinaut_schema::id::AgentId;
use ordinaut_store::versions::Version;
use tokio::sync::Notify;

use super::{MOST, MOST_IN_ALL, MOST_OF_AGENT, Subject, TooMany};

/// Everybody, by agent: what happens to one agent's tasks is not even looked up for another's followers.
#[derive(Debug, Default)]
pub(super) struct Followers {
    agents: HashMap<AgentId, HashMap<u64, Follower>>,
    entered: u64,
    count: usize,
    /// To be looked at now; only what is followed.
    stirred: HashSet<(AgentId, Subject)>,
    /// To be looked at once more, when progress that was told is written.
    unsettled: HashSet<(AgentId, Subject)>,
}

#[derive(Debug)]
struct Follower {
    follows: HashMap<Subject, Seen>,
    untold: BTreeSet<Subject>,
    wake: Arc<Notify>,
}

/// What a follower knows of a subject.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Version(Version),
    /// It is gone, and that was told.
    Gone,
    /// The follower looks for itself.
    Itself,
}

impl Follower {
    fn tell(&mut self, subject: Subject) {
        self.untold.insert(subject);
        self.wake.notify_one();
    }
}

impl Followers {
    pub(super) fn enter(&mut self, agent: AgentId, wake: Arc<Notify>) -> u64 {
        self.entered += 1;
        self.count += 1;
        let follower = Follower { follows: HashMap::new(), untold: BTreeSet::new(), wake };
        self.agents.entry(agent).or_default().insert(self.entered, follower);
        self.entered
    }

    pub(super) fn leave(&mut self, agent: AgentId, number: u64) {
        let Some(followers) = self.agents.get_mut(&agent) else { return };
        if followers.remove(&number).is_some() {
            self.count -= 1;
        }
        if followers.is_empty() {
            self.agents.remove(&agent);
        }
    }

    pub(super) fn has_room(&self, agent: AgentId) -> bool {
        let own = self.agents.get(&agent).map_or(0, HashMap::len);
        self.count < MOST_IN_ALL && own < MOST_OF_AGENT
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn follower(&mut self, agent: AgentId, number: u64) -> Option<&mut Follower> {
        self.agents.get_mut(&agent)?.get_mut(&number)
    }

    pub(super) fn add(
        &mut self,
        agent: AgentId,
        number: u64,
        subject: Subject,
        version: Option<Version>,
    ) -> Result<(), TooMany> {
        let follower = self.follower(agent, number).expect("who follows has entered and not left");
        if follower.follows.len() >= MOST && !follower.follows.contains_key(&subject) {
            return Err(TooMany);
        }
        follower.follows.insert(subject, version.map_or(Seen::Itself, Seen::Version));
        Ok(())
    }

    pub(super) fn remove(&mut self, agent: AgentId, number: u64, subject: Subject) {
        if let Some(follower) = self.follower(agent, number) {
            follower.follows.remove(&subject);
            follower.untold.remove(&subject);
        }
    }

    pub(super) fn take(&mut self, agent: AgentId, number: u64) -> Vec<Subject> {
        self.follower(agent, number).map(|it| take(&mut it.untold)).unwrap_or_default().into_iter().collect()
    }

    /// An event about `subject`: who looks for itself is told, for the rest it is to be looked at.
    ///
    /// True when there is something to look at.
    pub(super) fn stir(&mut self, agent: AgentId, subject: Subject, early: bool) -> bool {
        let mut look = false;
        for follower in self.agents.get_mut(&agent).into_iter().flat_map(HashMap::values_mut) {
            match follower.follows.get(&subject) {
                None => {}
                Some(Seen::Itself) => follower.tell(subject),
                Some(Seen::Version(_) | Seen::Gone) => look = true,
            }
        }
        if look {
            self.stirred.insert((agent, subject));
            if early {
                self.unsettled.insert((agent, subject));
            }
        }
        look
    }

    /// Everything may have changed.
    pub(super) fn stir_all(&mut self) {
        for (agent, subjects) in self.all() {
            self.stirred.extend(subjects.into_iter().map(|subject| (agent, subject)));
        }
        for follower in self.agents.values_mut().flat_map(HashMap::values_mut) {
            let itself = follower.follows.iter().filter(|(_, seen)| **seen == Seen::Itself);
            for subject in itself.map(|(subject, _)| *subject).collect::<Vec<_>>() {
                follower.tell(subject);
            }
        }
    }

    /// What this agent's followers follow may have changed, all of it. True when there is something to look at.
    pub(super) fn stir_agent(&mut self, agent: AgentId) -> bool {
        let followed = self.agents.get(&agent).into_iter().flat_map(HashMap::values).flat_map(|it| &it.follows);
        let subjects: Vec<_> =
            followed.filter(|(_, seen)| **seen != Seen::Itself).map(|(subject, _)| *subject).collect();
        self.stirred.extend(subjects.iter().map(|subject| (agent, *subject)));
        !subjects.is_empty()
    }

    /// What was stirred since the last call.
    pub(super) fn take_stirred(&mut self) -> HashMap<AgentId, Vec<Subject>> {
        by_agent(take(&mut self.stirred))
    }

    pub(super) fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// What was told early is to be looked at again.
    pub(super) fn settle(&mut self) -> HashMap<AgentId, Vec<Subject>> {
        self.stirred.extend(take(&mut self.unsettled));
        self.take_stirred()
    }

    /// Everything that is followed by one who does not look for itself.
    pub(super) fn all(&mut self) -> HashMap<AgentId, Vec<Subject>> {
        self.stirred.clear();
        self.unsettled.clear();
        let mut all = HashSet::new();
        for (agent, followers) in &self.agents {
            for (subject, seen) in followers.values().flat_map(|follower| &follower.follows) {
                if *seen != Seen::Itself {
                    all.insert((*agent, *subject));
                }
            }
        }
        by_agent(all)
    }

    /// What `subject` is now, `None` when it is gone: told where that is news.
    pub(super) fn saw(&mut self, agent: AgentId, subject: Subject, version: Option<&Version>) {
        for follower in self.agents.get_mut(&agent).into_iter().flat_map(HashMap::values_mut) {
            let Some(seen) = follower.follows.get_mut(&subject) else { continue };
            let news = match (&*seen, version) {
                (Seen::Version(before), Some(now)) => before != now,
                (Seen::Version(_), None) | (Seen::Gone, Some(_)) => true,
                (Seen::Gone, None) | (Seen::Itself, _) => false,
            };
            if news {
                *seen = version.map_or(Seen::Gone, |version| Seen::Version(version.clone()));
                follower.tell(subject);
            }
        }
    }
}

fn by_agent(pairs: HashSet<(AgentId, Subject)>) -> HashMap<AgentId, Vec<Subject>> {
    let mut agents: HashMap<AgentId, Vec<Subject>> = HashMap::new();
    for (agent, subject) in pairs {
        agents.entry(agent).or_default().push(subject);
    }
    agents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_follows_from_everywhere_is_stopped_and_no_other_with_it() {
        let mut followers = Followers::default();
        let (crowd, calm) = (AgentId::new(), AgentId::new());
        let mut entered = Vec::new();
        while followers.has_room(crowd) {
            entered.push(followers.enter(crowd, Arc::default()));
        }
        assert_eq!((entered.len(), followers.has_room(calm)), (MOST_OF_AGENT, true));
        followers.leave(crowd, entered[0]);
        assert!(followers.has_room(crowd));
        while followers.len() < MOST_IN_ALL {
            followers.enter(AgentId::new(), Arc::default());
        }
        assert!(!followers.has_room(calm));
    }
}
