//! Names that people may be shown, whoever chose them.

/// A name that people may be shown: on one line, without characters that hide or turn round what
/// stands beside them, not too long, and no number in full. `None` if nothing is left.
pub fn harmless(name: &str) -> Option<String> {
    let mut clean = String::new();
    for word in name.split_whitespace() {
        let mut word = word.chars().filter(|c| !hides(*c)).peekable();
        if word.peek().is_some() && !clean.is_empty() {
            clean.push(' ');
        }
        clean.extend(word);
    }
    let clean: String = clean.chars().take(MAX_NAME).collect();
    if is_number(&clean) {
        return Some(masked(&clean));
    }
    Some(clean.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Control characters, and those by which one name passes for another: direction overrides, zero
/// width, the tag and private blocks.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}'
        )
}

/// Whether a name is nothing but a telephone number, however it is spaced.
fn is_number(name: &str) -> bool {
    let only = |c: char| c.is_ascii_digit() || "+-./() ".contains(c);
    name.chars().all(only) && name.chars().filter(char::is_ascii_digit).count() >= 3
}

/// A number with its middle hidden: `+49301•••45`.
fn masked(number: &str) -> String {
    let digits = digits(number);
    let plus = usize::from(digits.starts_with('+'));
    let count = digits.len() - plus;
    let head = plus + count.saturating_sub(5).min(5);
    format!("{}•••{}", &digits[..head], &digits[digits.len() - 2..])
}

/// A number without what people write between its digits; a leading `+` stays.
pub fn digits(number: &str) -> String {
    number
        .char_indices()
        .filter(|(i, c)| c.is_ascii_digit() || (*i == 0 && *c == '+'))
        .map(|(_, c)| c)
        .collect()
}

/// The longest name, in characters.
const MAX_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_harmless() {
        for (name, expected) in [
            ("Alice Smith", Some("Alice Smith")),
            ("  Alice \t\r\n Smith ", Some("Alice Smith")),
            ("\u{202e}ecilA\u{202c}", Some("ecilA")),
            ("A\u{200b}l\u{ad}ice\u{0}\u{1b}[2J", Some("Alice[2J")),
            ("\u{feff} \u{2066}", None),
            ("", None),
            ("Łukasz Żółć 张伟", Some("Łukasz Żółć 张伟")),
            ("+49 (30) 123-445", Some("+49301•••45")),
            ("0301234567890", Some("03012•••90")),
            ("112", Some("•••12")),
            ("1001", Some("•••01")),
            ("Agent 007", Some("Agent 007")),
            ("42", Some("42")),
        ] {
            assert_eq!(harmless(name).as_deref(), expected, "{name:?}");
        }
        assert_eq!(harmless(&"x".repeat(1_000)).unwrap().chars().count(), MAX_NAME);
    }
}
