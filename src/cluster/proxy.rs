//! Which proxy leads to an API server, by the rules of Go's programs, kubectl among them: the kubeconfig's `proxy-url`, whatever the
//! environment says; else HTTPS_PROXY or HTTP_PROXY, unless the server is on this machine or NO_PROXY names it.

use http::Uri;
use std::net::{IpAddr, Ipv6Addr};

/// Says why a text is no proxy.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {url:?} is no address of a proxy: write it as http://proxy.example.com:3128")]
pub(super) struct NoProxyUrl {
    origin: &'static str,
    url: String,
}

/// The proxy for this server, by the kubeconfig's `proxy-url` and by the variables of the environment.
pub(super) fn choose(
    server: &Uri,
    written: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, NoProxyUrl> {
    let first = |names: [&str; 2]| names.into_iter().filter_map(&variable).find(|value| !value.is_empty());
    if let Some(url) = written {
        return read("proxy-url of the kubeconfig", url).map(Some);
    }
    let (origin, names) = match server.scheme_str() {
        Some("http") => ("HTTP_PROXY", ["HTTP_PROXY", "http_proxy"]),
        _ => ("HTTPS_PROXY", ["HTTPS_PROXY", "https_proxy"]),
    };
    let Some(url) = first(names) else { return Ok(None) };
    let direct = first(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    if is_local(server) || direct.split(',').any(|entry| names_server(entry.trim(), server)) {
        return Ok(None);
    }
    read(origin, &url).map(Some)
}

fn read(origin: &'static str, url: &str) -> Result<Uri, NoProxyUrl> {
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let read = full.parse().ok().filter(|uri: &Uri| uri.host().is_some());
    read.ok_or_else(|| NoProxyUrl { origin, url: url.to_owned() })
}

fn host(server: &Uri) -> &str {
    server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

fn is_local(server: &Uri) -> bool {
    let host = host(server);
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether an entry of NO_PROXY names this server: `*`, a domain (and what is beneath it), `.domain` (only what is beneath it), an address
/// or a range of them; each but a range with a port, or without.
fn names_server(entry: &str, server: &Uri) -> bool {
    let (host, port) = (host(server).to_ascii_lowercase(), server.port_u16().unwrap_or(443));
    let entry = entry.to_ascii_lowercase();
    if entry == "*" {
        return true;
    }
    let address: Option<IpAddr> = host.parse().ok();
    if let Some((net, bits)) = entry.split_once('/') {
        let net: Option<IpAddr> = net.parse().ok();
        return net
            .zip(bits.parse().ok())
            .zip(address)
            .is_some_and(|((net, bits), address)| is_within(address, net, bits));
    }
    let (entry, wanted_port) = with_port(&entry);
    if entry.is_empty() || wanted_port.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let Ok(wanted) = entry.parse::<IpAddr>() {
        return address == Some(wanted);
    }
    let domain = entry.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(entry);
    match domain.strip_prefix('.') {
        Some(_) => host.ends_with(domain),
        None => host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// An entry and its port. An IPv6 address with one stands in brackets.
fn with_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<Ipv6Addr>().is_ok() {
        return (entry, None);
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
        _ => (entry, None),
    };
    (name.trim_start_matches('[').trim_end_matches(']'), port)
}

fn is_within(address: IpAddr, net: IpAddr, bits: u32) -> bool {
    match (address, net) {
        (IpAddr::V4(address), IpAddr::V4(net)) if bits <= 32 => {
            let shift = 32 - bits;
            u64::from(address.to_bits()) >> shift == u64::from(net.to_bits()) >> shift
        }
        (IpAddr::V6(address), IpAddr::V6(net)) if bits <= 128 => {
            let kept = |address: Ipv6Addr| address.to_bits().checked_shr(128 - bits).unwrap_or_default();
            kept(address) == kept(net)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(server: &str, written: Option<&str>, set: &[(&str, &str)]) -> String {
        let variable = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        match choose(&server.parse().unwrap(), written, variable) {
            Ok(proxy) => proxy.map(|proxy| proxy.to_string()).unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_proxy_is_that_of_the_kubeconfig_or_of_the_environment() {
        let api = "https://api.example.com:6443";
        for (server, written, set, expected) in [
            (api, None, &[][..], ""),
            (api, None, &[("HTTPS_PROXY", "http://p:3128")], "http://p:3128/"),
            (api, None, &[("HTTPS_PROXY", ""), ("https_proxy", "http://p:3128")], "http://p:3128/"),
            (api, None, &[("HTTPS_PROXY", "p:3128")], "http://p:3128/"),
            (api, None, &[("HTTP_PROXY", "http://p:3128")], ""),
            ("http://api.example.com", None, &[("HTTP_PROXY", "http://p:3128")], "http://p:3128/"),
            (api, Some("socks5://q:1080"), &[("HTTPS_PROXY", "http://p:3128")], "socks5://q:1080/"),
            (api, Some("http://q:1"), &[("NO_PROXY", "*")], "http://q:1/"),
            ("https://127.0.0.1:6443", Some("http://q:1"), &[], "http://q:1/"),
            ("https://127.0.0.1:6443", None, &[("HTTPS_PROXY", "http://p:3128")], ""),
            ("https://localhost:6443", None, &[("HTTPS_PROXY", "http://p:3128")], ""),
            ("https://[::1]:6443", None, &[("HTTPS_PROXY", "http://p:3128")], ""),
            (api, None, &[("HTTPS_PROXY", "http://p:3128"), ("no_proxy", "example.com")], ""),
            (api, None, &[("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", "p")], "http://p:3128/"),
        ] {
            assert_eq!(chosen(server, written, set), expected, "{server} {written:?} {set:?}");
        }
        let said = chosen(api, None, &[("HTTPS_PROXY", "http://")]);
        assert_eq!(
            said,
            "HTTPS_PROXY: \"http://\" is no address of a proxy: write it as http://proxy.example.com:3128"
        );
    }

    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        for (entry, server, named) in [
            ("*", "https://api.example.com", true),
            ("api.example.com", "https://API.example.com:6443", true),
            ("example.com", "https://api.example.com", true),
            ("example.com", "https://example.com", true),
            ("ample.com", "https://example.com", false),
            (".example.com", "https://api.example.com", true),
            (".example.com", "https://example.com", false),
            ("*.example.com", "https://api.example.com", true),
            ("*.example.com", "https://example.com", false),
            ("example.com:6443", "https://api.example.com:6443", true),
            ("example.com:6443", "https://api.example.com", false),
            ("10.0.0.1", "https://10.0.0.1:6443", true),
            ("10.0.0.1:6443", "https://10.0.0.1:6443", true),
            ("10.0.0.1:1", "https://10.0.0.1:6443", false),
            ("10.0.0.0/8", "https://10.1.2.3:6443", true),
            ("10.0.0.0/8", "https://11.1.2.3:6443", false),
            ("0.0.0.0/0", "https://11.1.2.3:6443", true),
            ("10.0.0.0/8", "https://api.example.com", false),
            ("10.0.0.0/33", "https://10.0.0.0", false),
            ("2001:db8::/32", "https://[2001:db8::7]:6443", true),
            ("2001:db8::/32", "https://[2001:db9::7]:6443", false),
            ("::/0", "https://[2001:db9::7]:6443", true),
            ("2001:db8::7", "https://[2001:db8::7]:6443", true),
            ("[2001:db8::7]:6443", "https://[2001:db8::7]:6443", true),
            ("", "https://api.example.com", false),
        ] {
            assert_eq!(names_server(entry, &server.parse().unwrap()), named, "{entry} {server}");
        }
    }
}
