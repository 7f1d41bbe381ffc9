use super::*;

/// Says of a text what the function says.
struct Says<F>(F);

impl<F: Fn(&str) -> Result<Vec<(Range<usize>, Label)>, NotSearched> + Send + Sync> EntityFinder for Says<F> {
    fn model(&self) -> &str {
        "says"
    }

    fn find(&self, text: &str) -> Result<Vec<(Range<usize>, Label)>, NotSearched> {
        (self.0)(text)
    }
}

fn with<F>(says: F) -> Scrubber
where
    F: Fn(&str) -> Result<Vec<(Range<usize>, Label)>, NotSearched> + Send + Sync + 'static,
{
    Scrubber::new(Tier::DetectNer, TODAY).with_entities(Arc::new(Says(says)))
}

fn scrub(scrubber: &Scrubber, text: &str) -> Scrubbed {
    scrubber.scrub(text, &KnownValues::default(), &mut Scratch::default())
}

fn replaced(text: &str) -> Scrubbed {
    Scrubbed::Replaced(text.into())
}

#[test]
fn d24_another_finder_only_adds() {
    let scrubber =
        with(|text| Ok(text.match_indices("zxqvly").map(|(at, found)| (at..at + found.len(), Label::Name)).collect()));
    assert_eq!(scrub(&scrubber, "zxqvly, SSN 078-05-1120"), replaced("[NAME], SSN [SSN]"));
    assert_eq!(scrub(&scrubber, "calm"), Scrubbed::Unchanged);
    // What it covers or touches stays found.
    let scrubber = with(|text| Ok(vec![(0..text.len(), Label::Organization)]));
    assert_eq!(scrub(&scrubber, "seen on 3/14/2024"), replaced("[ORGANIZATION]"));
    let scrubber = with(|_| Ok(vec![(0..9, Label::Organization)]));
    assert_eq!(scrub(&scrubber, "seen 3/14/2024 again"), replaced("[DATE] again"));
}

#[test]
fn d24_ranges_that_are_none_of_the_text_do_no_harm() {
    let scrubber = with(|text| {
        let backwards = Range { start: 9, end: 3 };
        Ok(vec![
            (1..2, Label::Name),
            (5..usize::MAX, Label::Name),
            (usize::MAX..usize::MAX, Label::Name),
            (backwards, Label::Id),
            (0..text.len() + 7, Label::Id),
        ])
    });
    assert_eq!(scrub(&scrubber, "éé no"), replaced("[ID]"));
    let scrubber = with(|_| Ok(vec![(1..2, Label::Name), (2..5, Label::Name)]));
    assert_eq!(
        scrub(&scrubber, "éé no"),
        replaced("[NAME][NAME] no"),
        "widened to characters, without the white space"
    );
}

#[test]
fn d24_sees_the_normalised_text_and_the_original_is_replaced() {
    let scrubber = with(|text| {
        let found = text.match_indices("Zöé");
        Ok(found.map(|(at, found)| (at..at + found.len(), Label::Name)).collect())
    });
    assert_eq!(scrub(&scrubber, "and Zo\u{308}e\u{301} \u{1f642} Zöé"), replaced("and [NAME] \u{1f642} [NAME]"));
}

#[test]
fn d24_placeholders_are_none_of_the_texts_words() {
    let scrubber = with(|text| Ok(vec![(0..text.len(), Label::Place)]));
    assert_eq!(scrub(&scrubber, "a [NAME]  b [DATE]"), replaced("[PLACE] [NAME]  [PLACE] [DATE]"));
    assert_eq!(scrub(&scrubber, "[NAME] [DATE]"), Scrubbed::Unchanged);
}

#[test]
fn d24_what_could_not_be_searched_is_replaced_as_a_whole() {
    let scrubber = with(|text| if text.contains("odd") { Err(NotSearched) } else { Ok(Vec::new()) });
    assert_eq!(scrub(&scrubber, "an odd text of 3/14/2024"), Scrubbed::Refused);
    assert_eq!(scrubber.find("odd", &KnownValues::default()), Err(NotSearched));
    assert_eq!(scrub(&scrubber, "on 3/14/2024"), replaced("on [DATE]"));
    assert_eq!(scrub(&Scrubber::new(Tier::DetectNer, TODAY), "calm"), Scrubbed::Refused, "without a model");
}
