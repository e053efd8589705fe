//! Which images a node is attached to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::manifest::Root;

/// The images that a node names; one that has more counts as attached to every image.
pub const MOST_IMAGES: usize = 16;

/// What names an image here: the first four bytes of its root, most significant first. Two images of one name cost
/// questions in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageTag(pub u32);

/// The images that a node is attached to, as far as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Images {
    /// It does not say: it counts as attached to every image.
    #[default]
    Any,
    /// These, at most [`MOST_IMAGES`], rising.
    These(Arc<[ImageTag]>),
}

/// What is no list of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no list of at most {MOST_IMAGES} images in rising order")]
pub struct NoImages;

impl ImageTag {
    /// The tag of an image.
    pub fn of(root: &Root) -> Self {
        let [a, b, c, d, ..] = root.0;
        Self(u32::from_be_bytes([a, b, c, d]))
    }
}

impl Images {
    /// These images, in any order; every image if they are too many.
    pub fn these(images: impl IntoIterator<Item = ImageTag>) -> Self {
        let mut tags: Vec<ImageTag> = images.into_iter().collect();
        tags.sort_unstable();
        tags.dedup();
        if tags.len() > MOST_IMAGES {
            return Self::Any;
        }
        Self::These(tags.into())
    }

    /// Takes what another node says; it has to be in order.
    pub(crate) fn said(tags: Vec<ImageTag>) -> Result<Self, NoImages> {
        let rising = tags.windows(2).all(|two| matches!(two, [a, b] if a < b));
        if !rising || tags.len() > MOST_IMAGES {
            return Err(NoImages);
        }
        Ok(Self::These(tags.into()))
    }

    /// True if whoever says this counts as attached to the image.
    pub fn contain(&self, image: ImageTag) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.binary_search(&image).is_ok(),
        }
    }

    /// True if two nodes that say this may have something for each other.
    pub fn meet(&self, other: &Self) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| other.contain(*tag)),
        }
    }
}

impl fmt::Display for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// `any`, `-` for none, or tags with commas between them.
impl fmt::Display for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::These(tags) = self else {
            return f.write_str("any");
        };
        if tags.is_empty() {
            return f.write_str("-");
        }
        let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
        f.write_str(&tags.join(","))
    }
}

impl FromStr for Images {
    type Err = NoImages;

    fn from_str(text: &str) -> Result<Self, NoImages> {
        let tag = |text: &str| {
            let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u32::from_str_radix(text, 16).ok().filter(|_| digits);
            number.map(ImageTag).ok_or(NoImages)
        };
        match text {
            "any" => Ok(Self::Any),
            "-" => Self::said(Vec::new()),
            _ => Self::said(text.split(',').map(tag).collect::<Result<_, _>>()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ImageTag, Images, MOST_IMAGES};
    use crate::manifest::Root;

    fn these(tags: &[u32]) -> Images {
        Images::these(tags.iter().copied().map(ImageTag))
    }

    #[test]
    fn an_image_is_named_by_the_beginning_of_its_root() {
        let mut root = Root([0; 32]);
        root.0[..5].copy_from_slice(&[0xab, 1, 2, 3, 4]);
        assert_eq!(ImageTag::of(&root).to_string(), "ab010203");
    }

    #[test]
    fn who_says_nothing_or_too_much_is_attached_to_all() {
        let (one, other) = (these(&[5, 1, 5]), these(&[2, 3]));
        assert!(one.contain(ImageTag(5)) && !one.contain(ImageTag(2)));
        assert!(!one.meet(&other) && one.meet(&these(&[9, 1])));
        assert!(
            Images::Any.contain(ImageTag(7)) && Images::Any.meet(&one) && one.meet(&Images::Any)
        );
        assert!(
            !these(&[]).meet(&Images::Any),
            "who has nothing asks nobody"
        );
        let many: Vec<u32> = (0..=u32::try_from(MOST_IMAGES).unwrap()).collect();
        assert_eq!(these(&many), Images::Any);
        assert_ne!(these(&many[1..]), Images::Any);
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for (images, text) in [
            (Images::Any, "any"),
            (these(&[]), "-"),
            (these(&[0xff, 2]), "00000002,000000ff"),
        ] {
            assert_eq!(images.to_string(), text);
            assert_eq!(text.parse(), Ok(images));
        }
        let long = ["00000001"; 2].join(",");
        for text in [
            "",
            "all",
            "1",
            "+0000001",
            "00000002,00000001",
            &long,
            "00000001,",
        ] {
            assert!(text.parse::<Images>().is_err(), "{text}");
        }
        let most: Vec<String> = (0..=MOST_IMAGES).map(|tag| format!("{tag:08x}")).collect();
        assert!(most.join(",").parse::<Images>().is_err());
        assert!(most[1..].join(",").parse::<Images>().is_ok());
    }
}
