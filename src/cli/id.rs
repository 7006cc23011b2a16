//! Names and ids that nobody else has.

use super::error::Error;

/// Crockford's alphabet: 32 characters, so that five random bits make one, and none that is easily misread.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The id of a command. It is chosen once for an intent, so that asking again after a lost answer asks for nothing new.
pub(super) fn command() -> Result<String, Error> {
    unique("cli-", 16)
}

/// The mark by which a verb knows an object that it has created itself.
pub(super) fn request() -> Result<String, Error> {
    unique("", 16)
}

/// The name of a lease that was given none.
pub(super) fn lease_name() -> Result<String, Error> {
    unique("drydock-", 8)
}

/// A number that others are not likely to have, to be spread by.
pub(super) fn random_byte() -> Result<u8, Error> {
    let mut bytes = [0; 1];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes[0])
}

fn unique(prefix: &str, length: usize) -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    let random = bytes.iter().take(length).map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    Ok(prefix.chars().chain(random).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_dns_labels_and_differ() {
        for (make, prefix, length) in
            [(command as fn() -> _, "cli-", 20), (request, "", 16), (lease_name, "drydock-", 16)]
        {
            let made: HashSet<String> = (0..100).map(|_| make().unwrap()).collect();
            assert_eq!(made.len(), 100);
            for id in made {
                assert!(id.starts_with(prefix), "{id}");
                assert_eq!(id.len(), length, "{id}");
                assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{id}");
            }
        }
    }
}
