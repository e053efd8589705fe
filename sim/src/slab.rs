//! Things that come and go, by number.

/// Names a thing in a [`Slab`], and never another one that took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    at: u32,
    turn: u32,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, thing: T) -> Id {
        if let Some(at) = self.free.pop()
            && let Some((turn, place)) = self.places.get_mut(at as usize)
        {
            *place = Some(thing);
            return Id { at, turn: *turn };
        }
        let at = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push((0, Some(thing)));
        Id { at, turn: 0 }
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let (turn, thing) = self.places.get_mut(id.at as usize)?;
        thing.as_mut().filter(|_| *turn == id.turn)
    }

    pub(crate) fn get(&self, id: Id) -> Option<&T> {
        let (turn, thing) = self.places.get(id.at as usize)?;
        thing.as_ref().filter(|_| *turn == id.turn)
    }

    pub(crate) fn remove(&mut self, id: Id) -> Option<T> {
        let (turn, thing) = self.places.get_mut(id.at as usize)?;
        let thing = thing.take_if(|_| *turn == id.turn)?;
        *turn += 1;
        self.free.push(id.at);
        Some(thing)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.places
            .iter()
            .zip(0..)
            .filter_map(|((turn, thing), at)| Some((Id { at, turn: *turn }, thing.as_ref()?)))
    }
}

impl Id {
    /// The number, for the log.
    pub(crate) fn word(self) -> u64 {
        u64::from(self.turn) << 32 | u64::from(self.at)
    }
}
