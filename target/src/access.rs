//! Who may log in: by name, by network, by secret; and who is sent elsewhere.

/// Who may use an export, or ask what exports there are. The default lets everybody in.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AccessRules {}
