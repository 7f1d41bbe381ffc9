use zeroize::Zeroizing;

use super::*;

fn keys(seed: u8) -> Option<KeyRing> {
    let bytes = Zeroizing::new(std::array::from_fn(|at| (at as u8).wrapping_mul(7).wrapping_add(seed)));
    Some(KeyRing::parse(&KeyRing::generate("test", bytes).unwrap()).unwrap())
}

fn folder(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("lockgate-vault-{name}-{}", std::process::id()))
}

fn is_in_a_file(folder: &Path, code: &[u8]) -> bool {
    let holds = |path: &Path| std::fs::read(path).unwrap().windows(code.len()).any(|window| window == code);
    std::fs::read_dir(folder).unwrap().any(|entry| holds(&entry.unwrap().path()))
}

#[test]
fn a_code_never_changes_differs_by_value_and_domain_and_is_not_in_the_file() {
    let folder = folder("codes");
    let vault = VaultFile::open(&folder, keys(1)).unwrap();
    let first = vault.codes("member", &[[1; 32], [2; 32], [1; 32]]).unwrap();
    assert_eq!(first[0], first[2]);
    assert_ne!(first[0], first[1]);
    assert_ne!(vault.codes("claim", &[[1; 32]]).unwrap()[0], first[0]);
    assert_eq!(vault.find("member", &[[1; 32], [9; 32]]).unwrap(), [Some(first[0]), None]);
    assert_eq!(vault.forget("member", &[[1; 32], [9; 32]]).unwrap(), 1);
    assert_eq!(vault.find("member", &[[1; 32]]).unwrap(), [None]);
    assert!(!is_in_a_file(&folder, &first[0]));
    drop(vault);
    assert_eq!(VaultFile::open(&folder, keys(1)).unwrap().codes("member", &[[2; 32]]).unwrap()[0], first[1]);
    let other = VaultFile::open(&folder, keys(2)).unwrap().codes("member", &[[2; 32]]).unwrap_err();
    assert_eq!(other.kind(), Kind::Privacy);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn codes_that_an_older_release_left_in_clear_are_sealed_and_stay_the_same() {
    let folder = folder("clear");
    drop(VaultFile::open(&folder, None).unwrap());
    let connection = Connection::open(folder.join("vault.sqlite")).unwrap();
    connection.execute("INSERT INTO code VALUES ('member', ?1, ?2)", params![[1_u8; 32], [0xab_u8; 16]]).unwrap();
    drop(connection);
    assert!(is_in_a_file(&folder, &[0xab; 16]));
    let vault = VaultFile::open(&folder, keys(1)).unwrap();
    assert_eq!(vault.codes("member", &[[1; 32]]).unwrap(), [[0xab; 16]]);
    assert!(!is_in_a_file(&folder, &[0xab; 16]));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn numbers_are_above_zero_never_change_and_no_two_values_have_the_same() {
    let folder = folder("numbers");
    let vault = VaultFile::open(&folder, keys(1)).unwrap();
    let index: Vec<[u8; 32]> = (0..=255).map(|byte| [byte; 32]).collect();
    let numbers = vault.numbers("member", &index).unwrap();
    assert!(numbers.iter().all(|number| *number > 0));
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), 256);
    assert!(!numbers.is_sorted(), "numbers that rise would tell the order of first sight");
    assert_ne!(vault.numbers("claim", &[[0; 32]]).unwrap()[0], numbers[0]);
    let twice = vault.numbers("member", &[[7; 32], [8; 32], [7; 32]]).unwrap();
    assert_eq!(twice, [numbers[7], numbers[8], numbers[7]]);
    assert_eq!(vault.find_numbers("member", &[[9; 32]]).unwrap(), [Some(numbers[9])]);
    assert_eq!(vault.find("member", &[[9; 32]]).unwrap(), [None], "a number is another code than the 128 bits");
    for number in &numbers {
        assert!(!is_in_a_file(&folder, &number.to_be_bytes()) && !is_in_a_file(&folder, &number.to_le_bytes()));
    }
    drop(vault);
    let vault = VaultFile::open(&folder, keys(1)).unwrap();
    assert_eq!(vault.numbers("member", &index).unwrap(), numbers);
    assert_eq!(vault.forget("member", &[[9; 32]]).unwrap(), 1);
    assert_eq!(vault.find_numbers("member", &[[9; 32]]).unwrap(), [None]);
    std::fs::remove_dir_all(folder).unwrap();
}

/// Gives the numbers that it was told to.
#[derive(Clone, Copy)]
struct Told<'a>(&'a std::cell::RefCell<Vec<i64>>);

impl CodeKind<8> for Told<'_> {
    fn table(self) -> &'static str {
        Numbers.table()
    }

    fn insert(self) -> &'static str {
        Numbers.insert()
    }

    fn context(self, domain: &str, index: &[u8]) -> Vec<u8> {
        Numbers.context(domain, index)
    }

    fn fresh(self) -> Result<[u8; 8]> {
        Ok(self.0.borrow_mut().remove(0).to_be_bytes())
    }

    fn add(
        self,
        insert: &mut Statement<'_>,
        place: (&str, &[u8; 32]),
        code: (&[u8; 8], &[u8]),
        marks: &NumberMarks,
    ) -> rusqlite::Result<usize> {
        Numbers.add(insert, place, code, marks)
    }
}

#[test]
fn a_number_that_is_taken_is_not_given_to_another_value() {
    let folder = folder("taken");
    let vault = VaultFile::open(&folder, keys(1)).unwrap();
    let told = std::cell::RefCell::new(vec![5, 5, 5, 6, 5]);
    let mut open = vault.locked();
    let mut given = |domain: &str, index: &[[u8; 32]]| {
        vault.given(&mut open.file, Told(&told), domain, index).unwrap().into_iter().map(i64::from_be_bytes).collect()
    };
    let first: Vec<i64> = given("member", &[[1; 32], [2; 32]]);
    assert_eq!(first, [5, 6]);
    let known: Vec<i64> = given("member", &[[2; 32], [1; 32]]);
    assert_eq!(known, [6, 5]);
    let elsewhere: Vec<i64> = given("claim", &[[1; 32]]);
    assert_eq!((elsewhere, told.borrow().len()), (vec![5], 0), "another domain has numbers of its own");
    drop(open);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_remembered_goes_when_it_is_forgotten_here_or_by_another_program() {
    let folder = folder("recent");
    let [vault, other] = [(); 2].map(|()| VaultFile::open(&folder, keys(1)).unwrap());
    let index = [[1; 32], [2; 32]];
    for _ in 0..2 {
        let (codes, numbers) = (vault.codes("member", &index).unwrap(), vault.numbers("member", &index).unwrap());
        assert_eq!(other.codes("member", &index).unwrap(), codes);
        assert_eq!(other.numbers("member", &index).unwrap(), numbers);
        assert_eq!(vault.forget("member", &index[..1]).unwrap(), 2);
        // Other programs see that the file has changed, and make no row with a code that is nowhere.
        for vault in [&other, &vault] {
            let (codes_now, numbers_now) =
                (vault.codes("member", &index).unwrap(), vault.numbers("member", &index).unwrap());
            assert!(codes_now[0] != codes[0] && codes_now[1] == codes[1]);
            assert!(numbers_now[0] != numbers[0] && numbers_now[1] == numbers[1]);
            assert_eq!(vault.find("member", &index[..1]).unwrap(), [Some(codes_now[0])]);
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn two_programs_give_a_new_value_one_code() {
    let folder = folder("two");
    let vaults = [(); 2].map(|()| VaultFile::open(&folder, keys(1)).unwrap());
    let index: Vec<[u8; 32]> = (0..200).map(|byte| [byte; 32]).collect();
    let both = std::thread::scope(|scope| {
        let threads = vaults.each_ref().map(|vault| {
            let index = &index;
            scope.spawn(move || {
                let parts = index.chunks(10).map(|part| vault.codes("member", part).unwrap());
                parts.collect::<Vec<_>>().concat()
            })
        });
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(both[0], both[1]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn codes_of_both_kinds_are_sealed_anew_and_stay_the_same() {
    let folder = folder("anew");
    let random = |step: u8| Zeroizing::new(std::array::from_fn(|at| (at as u8).wrapping_mul(step)));
    let text = KeyRing::generate("test", random(3)).unwrap();
    let rotated = KeyRing::rotated(&text, &random(5), 0, false).unwrap();
    let vault = VaultFile::open(&folder, Some(KeyRing::parse(&text).unwrap())).unwrap();
    let (codes, numbers) = (vault.codes("a", &[[1; 32]]).unwrap(), vault.numbers("a", &[[1; 32]]).unwrap());
    drop(vault);
    let vault = VaultFile::open(&folder, Some(KeyRing::parse(&rotated).unwrap())).unwrap();
    assert_eq!((vault.epochs().unwrap(), vault.seal_anew().unwrap()), ([1].into(), 2));
    assert_eq!((vault.epochs().unwrap(), vault.seal_anew().unwrap()), ([2].into(), 0));
    assert_eq!((vault.codes("a", &[[1; 32]]).unwrap(), vault.numbers("a", &[[1; 32]]).unwrap()), (codes, numbers));
    std::fs::remove_dir_all(folder).unwrap();
}
