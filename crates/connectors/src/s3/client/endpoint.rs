//! What the form of an endpoint tells: most providers put the region into it.

use super::options::S3Options;

/// The region that belongs to an endpoint, where its form tells.
pub fn region_of(endpoint: &str) -> Option<String> {
    let endpoint = endpoint.trim_end_matches('.').to_ascii_lowercase();
    let labels: Vec<&str> = endpoint.split('.').collect();
    let known = match labels.as_slice() {
        [below @ .., "amazonaws", "com"] | [below @ .., "amazonaws", "com", "cn"] => {
            return amazon(below).map(str::to_owned);
        }
        [.., "s3", region, "scw", "cloud"]
        | [.., "s3", region, "backblazeb2", "com"]
        | [.., "s3", region, "wasabisys", "com"]
        | [.., "s3", region, "cloud", "ovh", _]
        | [.., "s3", region, "io" | "perf", "cloud", "ovh", _]
        | [.., "s3", region, "cloud-object-storage", "appdomain", "cloud"]
        | [.., region, "digitaloceanspaces", "com"]
        | [.., region, "linodeobjects", "com"]
        | [.., region, "your-objectstorage", "com"] => region,
        [.., "s3", "wasabisys", "com"] | [.., "clever-cloud", "com"] => "us-east-1",
        [.., "storage", "googleapis", "com"] | [.., "r2", "cloudflarestorage", "com"] => "auto",
        [.., zone, "exo", "io"] => zone.strip_prefix("sos-")?,
        _ => return None,
    };
    (!known.is_empty()).then(|| known.to_owned())
}

/// Amazon's forms: `s3.REGION`, `s3-REGION`, `s3.dualstack.REGION`, `s3-fips…`, and without a
/// region, below which a bucket may stand.
fn amazon<'a>(labels: &[&'a str]) -> Option<&'a str> {
    let at = labels.iter().rposition(|label| *label == "s3" || label.starts_with("s3-"))?;
    let (service, rest) = (labels.get(at)?, labels.get(at + 1..)?);
    match (*service, rest) {
        ("s3-accelerate", _) => None,
        ("s3" | "s3-external-1", []) => Some("us-east-1"),
        (_, ["dualstack", region] | [region]) => Some(region),
        (service, []) => service.strip_prefix("s3-"),
        _ => None,
    }
}

/// Whether it is one of Amazon's own.
pub fn is_amazon(endpoint: &str) -> bool {
    let endpoint = endpoint.trim_end_matches('.').to_ascii_lowercase();
    endpoint.ends_with(".amazonaws.com") || endpoint.ends_with(".amazonaws.com.cn")
}

/// Whether the bucket goes into the path rather than the host name.
pub(super) fn path_style(options: &S3Options) -> bool {
    match options.virtual_host {
        Some(virtual_host) => !virtual_host,
        // A certificate for `*.s3.…` does not cover one more dot.
        None => !is_amazon(&options.endpoint) || options.bucket.contains('.'),
    }
}

/// `host`, or `host:port` where the port is given.
pub(super) fn authority(options: &S3Options) -> String {
    let host = &options.endpoint;
    let host = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.clone(),
    };
    match options.port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// As [`authority`], for a bucket in this region: Amazon's endpoints serve their own region alone,
/// and the others are called after theirs.
pub(super) fn authority_in(options: &S3Options, region: &str) -> String {
    let endpoint = options.endpoint.trim_end_matches('.').to_ascii_lowercase();
    let is_elsewhere = region_of(&endpoint).is_some_and(|own| own != region);
    match endpoint.find("amazonaws.com") {
        Some(at) if is_amazon(&endpoint) && is_elsewhere && options.port.is_none() => {
            format!("s3.{region}.{}", endpoint.get(at..).unwrap_or_default())
        }
        _ => authority(options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_stand_in_endpoints() {
        let known = [
            ("s3.eu-west-3.amazonaws.com", "eu-west-3"),
            ("S3.EU-WEST-3.amazonaws.com.", "eu-west-3"),
            ("s3-eu-west-1.amazonaws.com", "eu-west-1"),
            ("s3.dualstack.eu-west-3.amazonaws.com", "eu-west-3"),
            ("s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
            ("s3-fips.dualstack.us-east-2.amazonaws.com", "us-east-2"),
            ("s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("s3.amazonaws.com", "us-east-1"),
            ("s3-external-1.amazonaws.com", "us-east-1"),
            ("bucket.s3.eu-north-1.amazonaws.com", "eu-north-1"),
            ("s3.fr-par.scw.cloud", "fr-par"),
            ("s3.eu-central-003.backblazeb2.com", "eu-central-003"),
            ("s3.eu-central-1.wasabisys.com", "eu-central-1"),
            ("s3.wasabisys.com", "us-east-1"),
            ("s3.gra.io.cloud.ovh.net", "gra"),
            ("s3.gra.perf.cloud.ovh.net", "gra"),
            ("s3.sbg.cloud.ovh.net", "sbg"),
            ("s3.us-east-va.io.cloud.ovh.us", "us-east-va"),
            ("storage.googleapis.com", "auto"),
            ("0123abc.r2.cloudflarestorage.com", "auto"),
            ("0123abc.eu.r2.cloudflarestorage.com", "auto"),
            ("cellar-c2.services.clever-cloud.com", "us-east-1"),
            ("fra1.digitaloceanspaces.com", "fra1"),
            ("eu-central-1.linodeobjects.com", "eu-central-1"),
            ("fsn1.your-objectstorage.com", "fsn1"),
            ("sos-ch-gva-2.exo.io", "ch-gva-2"),
            ("s3.eu-de.cloud-object-storage.appdomain.cloud", "eu-de"),
        ];
        for (endpoint, region) in known {
            assert_eq!(region_of(endpoint).as_deref(), Some(region), "{endpoint}");
        }
        let unknown = [
            "localhost",
            "127.0.0.1",
            "minio.example.com",
            "s3.garage.example.org",
            "s3-accelerate.amazonaws.com",
            "amazonaws.com",
            "ec2.eu-west-3.amazonaws.com",
            "",
            "s3..scw.cloud",
        ];
        for endpoint in unknown {
            assert_eq!(region_of(endpoint), None, "{endpoint}");
        }
    }

    #[test]
    fn buckets_go_into_the_path_but_for_amazon() {
        let path = |endpoint: &str, bucket: &str, virtual_host| {
            let (endpoint, bucket) = (endpoint.into(), bucket.into());
            path_style(&S3Options { endpoint, bucket, virtual_host, ..S3Options::default() })
        };
        assert!(path("localhost", "b", None));
        assert!(path("s3.fr-par.scw.cloud", "b", None));
        assert!(!path("s3.eu-west-3.amazonaws.com", "b", None));
        assert!(path("s3.eu-west-3.amazonaws.com", "a.b", None));
        assert!(path("s3.eu-west-3.amazonaws.com", "b", Some(false)));
        assert!(!path("localhost", "b", Some(true)));
    }

    #[test]
    fn a_taught_region_has_its_own_endpoint_at_amazon() {
        let to = |endpoint: &str, region| {
            authority_in(&S3Options { endpoint: endpoint.into(), ..S3Options::default() }, region)
        };
        let own = "s3.eu-west-3.amazonaws.com";
        assert_eq!(to(own, "eu-west-3"), own);
        assert_eq!(to(own, "us-west-2"), "s3.us-west-2.amazonaws.com");
        assert_eq!(to("s3.amazonaws.com", "us-west-2"), "s3.us-west-2.amazonaws.com");
        let china = "s3.cn-north-1.amazonaws.com.cn";
        assert_eq!(to(china, "cn-northwest-1"), "s3.cn-northwest-1.amazonaws.com.cn");
        assert_eq!(to("s3.fr-par.scw.cloud", "nl-ams"), "s3.fr-par.scw.cloud");
        assert_eq!(to("localhost", "anything"), "localhost");
    }

    #[test]
    fn addresses_of_version_6_are_bracketed() {
        let with = |endpoint: &str, port| {
            authority(&S3Options { endpoint: endpoint.into(), port, ..S3Options::default() })
        };
        assert_eq!(with("::1", Some(9000)), "[::1]:9000");
        assert_eq!(with("[::1]", None), "[::1]");
        assert_eq!(with("host", Some(1)), "host:1");
    }
}
