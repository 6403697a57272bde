//! The modules of a crate, and the files that each of its files imports.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Item, ItemUse, UseTree, Visibility};

/// The most imports to follow for a name: `use serde_json;` leads to itself.
const MAX_HOPS: usize = 16;

/// Source files by their path.
pub(crate) type Sources = BTreeMap<String, String>;

/// The names that files import: (importing file, imported file) → paths.
pub(crate) type Imports = BTreeMap<(String, String), BTreeSet<String>>;

/// A module that is not only for tests.
#[derive(Default)]
struct Module {
    file: String,
    /// The names of its own items.
    items: BTreeSet<String>,
    /// The names that it imports, with their paths.
    imports: Vec<(String, Vec<String>)>,
    /// The modules that it imports completely.
    globs: Vec<Vec<String>>,
    /// The paths in its code and in its private imports.
    used: BTreeSet<Vec<String>>,
    /// The paths of its public imports, which its own code need not use.
    exported: BTreeSet<Vec<String>>,
}

impl Module {
    /// Collects the paths in code. It reads tokens instead of a syntax tree, so it sees into
    /// macros.
    fn read_code(&mut self, code: TokenStream) {
        let tokens: Vec<TokenTree> = code.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(mark) if mark.as_char() == '#' => {
                    let is_test = is_for_tests(&tokens[at..]);
                    at += 2;
                    while is_test && at < tokens.len() && !ends_item(&tokens[at]) {
                        at += 1;
                    }
                }
                TokenTree::Ident(word) if word == "use" && !is_punct(&tokens, at + 1, '<') => {
                    let length = tokens[at..].iter().position(ends_statement).unwrap();
                    let tokens = tokens[at..=at + length].iter().cloned().collect();
                    self.read_use(&syn::parse2(tokens).unwrap());
                    at += length;
                }
                TokenTree::Ident(_) => {
                    let (path, end) = path_at(&tokens, at);
                    let is_name_of_field = path.len() == 1 && is_punct(&tokens, end, ':');
                    if !continues(&tokens, at) && !is_name_of_field {
                        self.used.insert(path);
                    }
                    at = end;
                    continue;
                }
                TokenTree::Group(group) => self.read_code(group.stream()),
                _ => {}
            }
            at += 1;
        }
    }

    fn read_use(&mut self, item: &ItemUse) {
        // A path that starts with `::` belongs to another crate.
        if item.leading_colon.is_none() {
            let is_private = matches!(item.vis, Visibility::Inherited);
            self.read_use_tree(&item.tree, &mut Vec::new(), is_private);
        }
    }

    fn read_use_tree(&mut self, tree: &UseTree, path: &mut Vec<String>, is_private: bool) {
        let (name, known_as) = match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.read_use_tree(&part.tree, path, is_private);
                path.pop();
                return;
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.read_use_tree(tree, path, is_private);
                }
                return;
            }
            UseTree::Glob(_) => return self.globs.push(path.clone()),
            UseTree::Name(name) => (&name.ident, &name.ident),
            UseTree::Rename(name) => (&name.ident, &name.rename),
        };
        let mut known_as = known_as.to_string();
        let mut path = path.clone();
        if name == "self" {
            if known_as == "self" {
                known_as = path.last().unwrap().clone();
            }
        } else {
            path.push(name.to_string());
        }
        let paths = if is_private {
            &mut self.used
        } else {
            &mut self.exported
        };
        paths.insert(path.clone());
        self.imports.push((known_as, path));
    }
}

fn is_punct(tokens: &[TokenTree], at: usize, mark: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

fn is_double_colon(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens, at, ':') && is_punct(tokens, at + 1, ':')
}

/// Returns whether `#[cfg(test)]` is among the attributes that tokens start with.
fn is_for_tests(tokens: &[TokenTree]) -> bool {
    let mut pairs = tokens.chunks(2);
    let mut attributes = std::iter::from_fn(|| match pairs.next() {
        Some([TokenTree::Punct(mark), TokenTree::Group(group)]) if mark.as_char() == '#' => {
            Some(group.stream().to_string().replace(' ', ""))
        }
        _ => None,
    });
    attributes.any(|attribute| attribute == "cfg(test)")
}

fn ends_statement(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(mark) if mark.as_char() == ';')
}

/// Returns whether a token can end an item, a statement or a field.
fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Punct(mark) => [';', ','].contains(&mark.as_char()),
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    }
}

/// Returns the path that starts at an identifier, and the index behind it.
fn path_at(tokens: &[TokenTree], mut at: usize) -> (Vec<String>, usize) {
    let mut path = vec![tokens[at].to_string()];
    while is_double_colon(tokens, at + 1)
        && let Some(TokenTree::Ident(name)) = tokens.get(at + 3)
    {
        path.push(name.to_string());
        at += 3;
    }
    (path, at + 1)
}

/// Returns whether an identifier is not the start of a path: `.field`, `'lifetime`, `<Type>::name`.
fn continues(tokens: &[TokenTree], at: usize) -> bool {
    let is_range = at > 1 && is_punct(tokens, at - 2, '.');
    at > 0
        && (is_punct(tokens, at - 1, '.') && !is_range
            || is_punct(tokens, at - 1, '\'')
            || at > 1 && is_double_colon(tokens, at - 2))
}

/// Returns the name that an item gives to its module.
fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(it) => &it.ident,
        Item::Enum(it) => &it.ident,
        Item::Fn(it) => &it.sig.ident,
        Item::Macro(it) => it.ident.as_ref()?,
        Item::Static(it) => &it.ident,
        Item::Struct(it) => &it.ident,
        Item::Trait(it) => &it.ident,
        Item::Type(it) => &it.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// The target of a path.
#[derive(Clone, Copy)]
enum Found<'a> {
    Module(&'a str),
    ItemOf(&'a str),
}

/// The modules of the library and of the program by their path: `crate::fs::temporary`.
#[derive(Default)]
pub(crate) struct Modules(BTreeMap<String, Module>);

impl Modules {
    /// Reads all modules, starting at `lib.rs` and `main.rs`.
    pub(crate) fn read(sources: &Sources) -> Self {
        let mut modules = Self::default();
        for (root, file) in [("crate", "lib.rs"), ("main", "main.rs")] {
            if sources.contains_key(file) {
                modules.read_file(sources, root, file);
            }
        }
        modules
    }

    fn read_file(&mut self, sources: &Sources, path: &str, file: &str) {
        let source = syn::parse_file(&sources[file]).unwrap();
        self.read_module(sources, path, file, source.items);
    }

    fn read_module(&mut self, sources: &Sources, path: &str, file: &str, items: Vec<Item>) {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        for item in items {
            let code = item.to_token_stream();
            if is_for_tests(&code.clone().into_iter().collect::<Vec<_>>()) {
                continue;
            }
            match item {
                Item::Mod(child) => {
                    let name = child.ident.to_string();
                    let path = format!("{path}::{name}");
                    if let Some((_, items)) = child.content {
                        self.read_module(sources, &path, file, items);
                    } else {
                        self.read_file(sources, &path, &file_of(sources, file, &name));
                    }
                }
                Item::Use(item) => module.read_use(&item),
                item => {
                    module.items.extend(name_of(&item));
                    module.read_code(code);
                }
            }
        }
        self.0.insert(path.to_owned(), module);
    }

    /// Follows a path from a module, through re-exports, to its definition.
    fn resolve<'a>(&'a self, from: &'a str, path: &[String], hops: usize) -> Option<Found<'a>> {
        let mut at = from;
        for (index, name) in path.iter().enumerate() {
            let is_last = index + 1 == path.len();
            at = match name.as_str() {
                "atlasfs" => "crate",
                "crate" => from.split("::").next()?,
                "self" => at,
                "super" => at.rsplit_once("::")?.0,
                name => match self.look_up(at, name, is_last, hops) {
                    Some(Found::Module(module)) => module,
                    Some(item) => return Some(item),
                    // A macro defines it there, unless the module imports it from another crate.
                    None => {
                        let module = &self.0[at];
                        let is_imported = module.imports.iter().any(|(known, _)| known == name);
                        let is_known = index > 0 && !is_imported;
                        return is_known.then_some(Found::ItemOf(&module.file));
                    }
                },
            };
        }
        Some(Found::Module(at))
    }

    /// Finds the meaning of a name in a module. A child and an item may share the name.
    fn look_up(&self, at: &str, name: &str, is_last: bool, hops: usize) -> Option<Found<'_>> {
        let hops = hops.checked_sub(1)?;
        let (at, module) = self.0.get_key_value(at)?;
        let child = || {
            let child = self.0.get_key_value(&format!("{at}::{name}"));
            child.map(|(path, _)| Found::Module(path))
        };
        let item = || {
            let has_it = module.items.contains(name);
            has_it.then_some(Found::ItemOf(&module.file))
        };
        let import = || {
            let imports = module.imports.iter().filter(|(known, _)| known == name);
            let mut found = imports.filter_map(|(_, path)| self.resolve(at, path, hops));
            found.next()
        };
        let glob = || {
            let mut globs = module.globs.iter();
            globs.find_map(|path| match self.resolve(at, path, hops)? {
                Found::Module(target) => self.look_up(target, name, is_last, hops),
                Found::ItemOf(_) => None,
            })
        };
        let first = if is_last { item() } else { child() };
        let last = if is_last { child() } else { item() };
        first.or_else(import).or(last).or_else(glob)
    }

    /// Returns the imports of each file, with or without those that it only re-exports.
    pub(crate) fn imports(&self, with_exported: bool) -> Imports {
        let mut imports = Imports::new();
        for (at, module) in &self.0 {
            let exported = module.exported.iter().filter(|_| with_exported);
            for path in module.used.iter().chain(exported) {
                if let Some(Found::ItemOf(file)) = self.resolve(at, path, MAX_HOPS)
                    && *file != module.file
                {
                    let files = (module.file.clone(), file.to_owned());
                    imports.entry(files).or_default().insert(path.join("::"));
                }
            }
        }
        imports
    }
}

/// Returns the file of a module that another file declares: `mod name;`.
fn file_of(sources: &Sources, parent: &str, name: &str) -> String {
    let (folder, stem) = parent.rsplit_once('/').unwrap_or(("", parent));
    let folder = match stem {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        _ => parent.trim_end_matches(".rs").to_owned(),
    };
    let names = [
        format!("{folder}/{name}.rs"),
        format!("{folder}/{name}/mod.rs"),
    ];
    let mut names = names.iter().map(|name| name.trim_start_matches('/'));
    let name = names.find(|name| sources.contains_key(*name));
    name.unwrap_or_else(|| panic!("{parent}: no file of the module {name:?}"))
        .to_owned()
}
