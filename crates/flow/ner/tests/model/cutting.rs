use super::*;

#[test]
fn texts_are_cut_as_the_library_of_the_models_cuts_them() {
    let cutter = ner::tokenizer(&files()).unwrap();
    let expected = expected();
    assert!(expected.len() > 5);
    for (text, ids, _) in expected {
        assert_eq!(cutter.cut(&text).ids, ids[1..ids.len() - 1], "{text}");
    }
}

#[test]
fn the_labels_are_those_of_the_configuration() {
    let config = ner::Config::of(&files()).unwrap();
    assert_eq!((config.tags.len(), config.pieces_max), (11, 32));
    assert_eq!(config.tags[3], ner::Tag::parse("B-DOCTOR"));
}
