//! Bytes as people read them: names that are not UTF-8 or hold control characters are escaped,
//! sizes are written with a unit, words that a shell would split are quoted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A path or name that can be printed on a terminal: what is not UTF-8, and control characters,
/// become `\xNN`, `\n`, `\t`; a backslash before such a thing stays as it is.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        text.push_str(&format!("\\x{byte:02x}"));
                    }
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// [`printable`] for what the operating system gave.
pub fn printable_os(text: impl AsRef<OsStr>) -> String {
    printable(text.as_ref().as_bytes())
}

/// A word as it can be typed into a shell.
pub fn shell_word(text: impl AsRef<OsStr>) -> String {
    let text = printable_os(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:+,=~%".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('~') {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Bytes with a binary unit and three digits: `999 B`, `1.46 KiB`, `97.7 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 1023.95 and more would be shown as 1024.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit = UNITS.get(unit).copied().unwrap_or("B");
    match value {
        _ if unit == "B" => format!("{bytes} B"),
        v if v < 9.995 => format!("{v:.2} {unit}"),
        v if v < 99.95 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    }
}

/// A number with its thousands apart: `1 234 567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Reads a size: `10M`, `1.5 GiB`, `4096`, `100kb`. Units are binary.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit != "i" && unit != "ib" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << power);
    }
    let value = number.parse::<f64>().ok()?
        * f64::from(1_u32 << (power % 30))
        * if power >= 30 { 1_073_741_824.0 } else { 1.0 };
    (value.is_finite() && (0.0..1.8e19).contains(&value)).then_some(value as u64)
}

/// A duration: `0.4 s`, `12.3 s`, `3 min 05 s`, `2 h 07 min`.
pub fn duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `1 file`, `2 files`.
pub fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A line of a list of keys: the name, padded to `width`, and what it is about, in lines that end
/// before column 80.
pub fn key_line(name: &str, width: usize, about: &str) -> String {
    let indent = width + 4;
    let (mut line, mut column) = (format!("  {name:<width$}  "), indent);
    for word in about.split(' ') {
        let room = word.chars().count() + 1;
        if column + room > 80 && column > indent {
            line.push_str(&format!("\n{:indent$}", ""));
            column = indent;
        } else if column > indent {
            line.push(' ');
        }
        line.push_str(word);
        column += room;
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_bytes_can_be_printed() {
        assert_eq!(printable("Grüße".as_bytes()), "Grüße");
        assert_eq!(printable(b"a\xff\xfeb\n\x1b[31m"), "a\\xff\\xfeb\\n\\x1b[31m");
    }

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(shell_word("/var/plakar"), "/var/plakar");
        assert_eq!(shell_word("/my backups"), "'/my backups'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1500), "1.46 KiB");
        assert_eq!(size(1 << 20), "1.00 MiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(count(12), "12");
        let parsed =
            ["10M", "1.5 GiB", "4096", "100kb", "2T", "x", "5q", "-1", "", "1ib"].map(parse_size);
        let expected = [
            Some(10 << 20),
            Some(3 << 29),
            Some(4096),
            Some(100 << 10),
            Some(2 << 40),
            None,
            None,
            None,
            None,
            None,
        ];
        assert_eq!(parsed, expected);
    }
}
