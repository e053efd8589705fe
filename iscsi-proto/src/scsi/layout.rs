//! Layouts as tables: a struct of big-endian fields whose offsets are asserted at compile time.

/// Defines a struct of so many bytes; the left column is the byte offset.
macro_rules! layout {
    ($(#[$doc:meta])* $name:ident = $size:literal { $($offset:literal => $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable,
            zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub(super) struct $name {
            $(pub(super) $field: $type,)*
        }

        const _: () = {
            assert!(std::mem::size_of::<$name>() == $size);
            $(assert!(std::mem::offset_of!($name, $field) == $offset);)*
        };

        impl Default for $name {
            /// All zeros.
            fn default() -> Self {
                zerocopy::transmute!([0u8; $size])
            }
        }

        impl From<[u8; $size]> for $name {
            fn from(bytes: [u8; $size]) -> Self {
                zerocopy::transmute!(bytes)
            }
        }

        impl From<$name> for [u8; $size] {
            fn from(layout: $name) -> Self {
                zerocopy::transmute!(layout)
            }
        }
    };
}

/// The front of `bytes`, filled up with zeros: fields that an older device does not send read as zero.
pub(super) fn zero_extended<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

pub(super) use layout;
