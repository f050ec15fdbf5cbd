//! The versions that a platform offers.
use crate::inputs::Invalid;

/// The version that a service object names in `spec.version`, of those that its ProviderConfig offers; `name` is how
/// tenants call one. Any other is [`Invalid`], and the tenant reads which there are.
///
/// ```
/// use service_provider_runtime::offered;
///
/// let versions = ["1.0", "1.1"];
/// assert_eq!(offered("1.1", &versions, |version| version).ok(), Some(&"1.1"));
/// let refused = offered("2.0", &versions, |version| version).err();
/// assert_eq!(
///     refused.map(|refused| refused.to_string()).as_deref(),
///     Some("spec.version: 2.0 is not offered; choose one of: 1.0, 1.1")
/// );
/// ```
pub fn offered<'a, V>(wanted: &str, versions: &'a [V], name: impl Fn(&V) -> &str) -> Result<&'a V, Invalid> {
    let found = versions.iter().find(|version| name(version) == wanted);
    found.ok_or_else(|| {
        let known: Vec<&str> = versions.iter().map(&name).collect();
        let message = match known[..] {
            [] => format!("spec.version: {wanted} is not offered, nor is any other"),
            _ => format!(
                "spec.version: {wanted} is not offered; choose one of: {}",
                known.join(", ")
            ),
        };
        Invalid::new("UnknownVersion", message)
    })
}
