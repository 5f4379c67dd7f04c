//! `struct quire_api_table`: a member for each function in a list, with the type that its prototype in the header has.

use std::error::Error;

/// Where functions end in what cbindgen wrote.
const END_OF_FUNCTIONS: &str = "#ifdef __cplusplus\n}  // extern \"C\"";

/// Puts the table behind the functions of `header`. `source` has the list, in `api_table! { … }`.
pub(crate) fn insert(header: &str, source: &str) -> Result<String, Box<dyn Error>> {
    let (before, after) = header
        .split_once(END_OF_FUNCTIONS)
        .ok_or("the header has no end of functions")?;
    Ok(format!("{before}{}\n{END_OF_FUNCTIONS}{after}", table(header, source)?))
}

fn table(header: &str, source: &str) -> Result<String, Box<dyn Error>> {
    let mut text = String::from(
        "/**\n * The whole API: what `quire_api` answers. Each member is the function of the same name with `quire_` before it.\n */\n\
         struct quire_api_table {\n    \
         /**\n     * The size of this struct in bytes, as the library has it. Members beyond it do not exist.\n     */\n    \
         uint32_t struct_size;\n    \
         /**\n     * The library's `QUIRE_API_VERSION`.\n     */\n    uint32_t api_version;\n",
    );
    for function in names(source)? {
        let prototype = prototype(header, function)?;
        let member = function
            .strip_prefix("quire_")
            .ok_or("a function's name begins with quire_")?;
        let (answer, arguments) = prototype
            .split_once(&format!("{function}("))
            .ok_or("a prototype names its function")?;
        text.push_str(&wrapped(&format!("    {answer}(*{member})({arguments};\n")));
    }
    text.push_str("};\n");
    Ok(text)
}

/// Breaks a line that is too long behind a comma.
fn wrapped(line: &str) -> String {
    const WIDTH: usize = 120;
    let Some(at) = (line.len() > WIDTH).then(|| line[..WIDTH].rfind(", ")).flatten() else {
        return line.to_owned();
    };
    format!("{},\n{}", &line[..at], wrapped(&format!("        {}", &line[at + 2..])))
}

/// The names between the braces of `api_table! { … }`.
fn names(source: &str) -> Result<Vec<&str>, Box<dyn Error>> {
    let (_, list) = source
        .split_once("\napi_table! {")
        .ok_or("the source has no api_table!")?;
    let (list, _) = list.split_once('}').ok_or("api_table! does not end")?;
    Ok(list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect())
}

/// A function's prototype on one line, without its semicolon.
fn prototype(header: &str, function: &str) -> Result<String, Box<dyn Error>> {
    let start = header
        .match_indices(&format!("{function}("))
        .map(|(at, _)| header[..at].rfind('\n').map_or(0, |newline| newline + 1))
        // Not in a comment: a prototype begins its line.
        .find(|&at| header[at..].starts_with(|c: char| c.is_ascii_alphabetic()))
        .ok_or_else(|| format!("the header has no function {function}"))?;
    let end = header[start..].find(';').ok_or("a prototype ends")? + start;
    Ok(header[start..end].split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_the_types_of_the_functions() {
        let header = "/** See quire_b(). */\nint32_t quire_a(uint32_t x,\n                void *p);\nconst char *quire_b(void);\n";
        let source = "macro\napi_table! {\n    quire_b,\n    quire_a,\n}\n";
        let text = table(header, source).unwrap();
        assert!(
            text.ends_with("    const char *(*b)(void);\n    int32_t (*a)(uint32_t x, void *p);\n};\n"),
            "{text}"
        );
        assert!(table("", source).is_err());
    }
}
