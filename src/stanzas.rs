//! Stanzas on their way out: what goes to one, and what goes to many and is written once.

use jid::FullJid;
use minidom::Element;
use minidom::rxml::{Namespace, NcName};

/// Stanzas in the order in which each addressee gets them.
#[derive(Clone, Debug, Default)]
pub struct Stanzas(Vec<Stanza>);

/// One entry of [`Stanzas`].
#[derive(Clone, Debug)]
pub enum Stanza {
    /// A stanza that says to whom it goes.
    One(Element),
    /// The same for many: a stanza without `to`, and its addressees.
    Many(Element, Vec<FullJid>),
}

impl Stanzas {
    /// Adds a stanza that says to whom it goes.
    pub fn push(&mut self, stanza: Element) {
        self.0.push(Stanza::One(stanza));
    }

    /// Adds a stanza without `to` for each of these; for nobody, nothing.
    pub fn push_to(&mut self, stanza: impl Into<Element>, to: Vec<FullJid>) {
        if !to.is_empty() {
            self.0.push(Stanza::Many(stanza.into(), to));
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One by one, as their addressees get them.
    pub fn each(&self) -> impl Iterator<Item = Element> {
        self.0.iter().flat_map(|stanza| {
            let (stanza, to): (_, &[_]) = match stanza {
                Stanza::One(stanza) => (stanza, &[]),
                Stanza::Many(stanza, to) => (stanza, to),
            };
            let one = to.is_empty().then(|| stanza.clone());
            one.into_iter().chain(to.iter().map(|to| addressed(stanza, to)))
        })
    }
}

impl Stanza {
    /// How many stanzas it is on the wire.
    pub fn copies(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(_, to) => to.len(),
        }
    }
}

impl IntoIterator for Stanzas {
    type Item = Stanza;
    type IntoIter = std::vec::IntoIter<Stanza>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Extend<Element> for Stanzas {
    fn extend<I: IntoIterator<Item = Element>>(&mut self, stanzas: I) {
        self.0.extend(stanzas.into_iter().map(Stanza::One));
    }
}

fn addressed(stanza: &Element, to: &FullJid) -> Element {
    let mut stanza = stanza.clone();
    let name = NcName::try_from("to").expect("an XML name");
    stanza.set_attr(Namespace::NONE, name, to.as_str());
    stanza
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_its_own_in_order() {
        let stanza = |id: &str| format!("<message xmlns='jabber:client' id='{id}'/>");
        let to = |text: &str| text.parse().unwrap();
        let mut all = Stanzas::default();
        all.push_to(stanza("0").parse::<Element>().unwrap(), vec![]);
        assert!(all.is_empty());
        all.push(stanza("1' to='a@x").parse().unwrap());
        all.push_to(stanza("2").parse::<Element>().unwrap(), vec![to("b@x/1"), to("c@x/2")]);
        all.extend([stanza("3' to='a@x").parse().unwrap()]);
        let got: Vec<_> = all
            .each()
            .map(|it| format!("{} {}", it.attr("id").unwrap(), it.attr("to").unwrap()))
            .collect();
        assert_eq!(got, ["1 a@x", "2 b@x/1", "2 c@x/2", "3 a@x"]);
        assert_eq!(all.into_iter().map(|it| it.copies()).collect::<Vec<_>>(), [1, 2, 1]);
    }
}
