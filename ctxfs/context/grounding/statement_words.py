"""Classes of English words in a statement: function words, denials, synonyms, verbs, labels and attributes. Pure.

The tables are small: an unlisted word counts as a content word, which has to be the same in both statements.
"""

from functools import lru_cache

from ctxfs.index.engines.analyzers import stem

MAX_STEMMED_CHARS = 40


def word_stem(word: str) -> str:
    """Return the stem of a lower-case word, one for all synonyms of a group."""
    return _canonical_stem(word) if len(word) <= MAX_STEMMED_CHARS else word


def _stems(words: str) -> frozenset[str]:
    return frozenset(stem("english", word) for word in words.split())


# Words without content of their own in any position.
FUNCTION_WORDS = frozenset(
    "a an the this that these those it its he she they them him we us you i me his her their our my your mine and or but if then so "
    "as at by for from in into of off on onto out over to up with while until since because although though however therefore "
    "thus also both each every any such other than which who whom whose what where when how why there here is are was were be been "
    "being am do does did has have had having can could may might must shall should will would per about via upon within through "
    "during between among against toward towards only just still yet too very quite rather more most much many few less least "
    "one some same own let lets s t re ve ll d m".split()
)
# Words that introduce or colour a statement. They may be missing from one of two statements.
FILLERS = _stems(
    "note notice please remember remind generally usually typically normally currently presently basically actually simply "
    "important worth mention keep mind according documentation document manual docs reference text page author state say "
    "describe report mean know think believe fact information now already specifically explicitly effectively essentially "
    "exactly precisely overall furthermore moreover additionally addition importantly hence indeed always ever automatically "
    "respectively namely recently "
)

DENIALS = frozenset(
    "not never no none neither nor without cannot nothing nobody hardly barely lack lacks lacking unable unlike "
    "nicht kein keine keinen keiner nie niemals ohne pas jamais sans nunca jamás sin non mai senza niet geen nooit zonder "
    "не нет никогда без".split()
)
# An opposite is the denial of the first word of its group.
_OPPOSITES = (
    "enable disable deactivate", "on off", "true false", "allow forbid prohibit deny disallow disallowed", "able unable",
    "require optional", "valid invalid", "support unsupported", "safe unsafe", "succeed fail", "available unavailable",
    "possible impossible", "include exclude", "active inactive", "visible hidden invisible", "accept reject", "known unknown",
    "secure insecure", "stable unstable", "present absent", "open close", "lock unlock", "mutable immutable", "legal illegal",
    "necessary unnecessary", "usual unusual", "compatible incompatible", "complete incomplete", "correct incorrect wrong",
    "equal unequal", "reliable unreliable", "used unused", "like dislike hate", "agree disagree", "online offline",
    *(f"{word} un{word}" for word in (
        "encrypted signed paid verified limited finished tested documented authorised authorized authenticated assigned "
        "published released resolved restricted protected confirmed approved changed attended versioned cached compressed "
        "armed occupied covered insured licensed licenced employed healthy common"
    ).split()),
    "sync async", "synchronous asynchronous", "case-sensitive case-insensitive", "sensitive insensitive", "public private",
)  # fmt: skip
# Words of which each excludes the other; neither is the denial of the other.
RIVAL_WORDS = tuple(
    _stems(group)
    for group in (
        "before after", "above below", "increase decrease reduce", "rise fall drop", "ascending descending", "first last",
        "upper lower", "horizontal vertical", "daily weekly monthly yearly annually hourly quarterly", "left right",
        "north south east west", "morning afternoon evening", "fast slow", "big small large", "hot cold warm",
        "single multiple", "once twice", "red green blue yellow black white orange purple pink brown gray grey",
        "married single divorced engaged", "tabs spaces", "light dark", "tea coffee", "dog cat", "never sometimes always",
        "manual automatic", "local remote", "lowercase uppercase", "vegetarian vegan", "internal external", "static dynamic",
    )
)  # fmt: skip
_SYNONYMS = (
    "start begin launch commence", "stop end finish terminate", "maximum max maximal", "minimum min minimal",
    "use utilise utilize employ", "need require must", "get obtain receive retrieve fetch", "show display print",
    "delete remove erase", "create make build construct", "folder directory", "argument parameter arg", "big large huge",
    "small little tiny", "change modify alter", "fix repair correct", "choose select pick", "help assist aid",
    "approximate roughly", "buy purchase", "job position", "car automobile", "child kid", "photo picture", "movie film",
    "company firm", "mail email e-mail", "phone telephone", "config configuration", "setting option", "error fault",
    "quick fast rapid", "happen occur", "contain include hold", "allow permit let enable", "forbid prohibit", "return yield give",
    "raise throw", "verify check validate", "keep retain preserve store save", "function routine", "send transmit",
    "expire lapse valid",
    "reach arrive", "ask request", "answer reply respond", "however but", "home house", "live reside dwell", "work employed",
    "begin start", "provide supply offer", "ensure guarantee", "perform execute run", "specify define", "value amount",
    "default standard", "consist comprise", "appear seem", "try attempt", "limit cap restrict", "whole entire complete",
    "cost price", "meet gather", "client customer", "vacation holiday", "doctor physician", "like enjoy love", "moved relocated",
    "cause lead trigger", "identical same", "different distinct", "permission privilege", "wait pause", "talk speak",
    "repository repo", "database db", "application app", "environment env", "production prod", "development dev",
    "automatic automatically", "number count", "user person", "initial first", "final last", "previous former prior", "next following",
)  # fmt: skip


def _fill_groups(groups: tuple[str, ...]) -> dict[str, str]:
    table: dict[str, str] = {}
    for group in groups:
        first, *others = (stem("english", word) for word in group.split())
        for word in others:
            table.setdefault(word, table.get(first, first))
    return table


_SYNONYM_OF = _fill_groups(_SYNONYMS)
_OPPOSITE_OF = {
    other: _SYNONYM_OF.get(first, first)
    for group in _OPPOSITES
    for first, *others in [[stem("english", word) for word in group.split()]]
    for other in others
}
_DENIED_BY: dict[str, tuple[str, ...]] = {
    key: tuple(other for other, denied in _OPPOSITE_OF.items() if denied == key) for key in _OPPOSITE_OF.values()
}


@lru_cache(maxsize=1 << 14)
def _canonical_stem(word: str) -> str:
    found = stem("english", word)
    return _SYNONYM_OF.get(found, found)


def affirmed_stem(key: str) -> str:
    """Return the stem that an opposite denies (`disabl` → `enabl`); empty for other words."""
    return _OPPOSITE_OF.get(key, "")


def counterparts(key: str) -> tuple[str, ...]:
    """Return the stems that stand for the same word affirmed or denied."""
    affirmed = _OPPOSITE_OF.get(key, "")
    return (affirmed, *_DENIED_BY.get(affirmed, ())) if affirmed else _DENIED_BY.get(key, ())


def are_rivals(one: str, other: str) -> bool:
    """Return True for stems that exclude each other: `before` and `after`, `daily` and `weekly`."""
    return any(one in group and other in group for group in RIVAL_WORDS)


AUXILIARIES = frozenset(
    "is are was were be am has have had can could may might must shall should will would does do did isn't aren't wasn't "
    "weren't hasn't haven't hadn't can't couldn't mustn't shouldn't won't wouldn't doesn't don't didn't cannot".split()
)
VERBS = _stems(
    "use return raise run allow require support contain accept take give create delete remove send receive start stop open close "
    "read write load store save need want like love prefer own lead manage maintain live work move go come become make get set "
    "call throw expire last begin end default provide return serve listen connect default refer belong report cost weigh measure "
    "include exclude handle process print show display convert parse match wait sleep retry limit describe define specify "
    "implement inherit apply mean happen occur change keep hold bring buy sell visit meet marry win lose play study learn teach "
    "join leave arrive depart attend plan decide choose pick select adopt release publish deploy install replace found develop "
    "design author invent name locate host base print enable disable deny forbid reject ignore skip cause ensure check "
    "verify override update add append insert indicate represent determine control perform execute produce generate "
    "trigger block drop reduce increase decrease grow shrink turn said told moved"
)
PAST_FORMS = frozenset(
    "began went came got gave took made bought met won lost found left told wrote built held kept ran saw felt knew thought brought "
    "taught became grew chose drove spoke sent sold said paid spent read led fell rose set put cut hit shut sat stood understood "
    "broke flew forgot hid rode sang swam threw wore heard lent meant slept swept wed caught fought sought shot hung".split()
)
# Verbs with one object at a time: two of them exclude each other.
EXCLUSIVE_VERBS = _stems(
    "prefer live reside default name call locate host base bear born marry belong report equal cost weigh"
)
# Participles that one agent, behind "by", excludes another from.
MAKING_VERBS = _stems(
    "own write written develop found lead manage maintain invent author design direct make made build publish"
)
LOCATING_VERBS = _stems("live reside locate host base bear born")
CHANGES = _stems("fix add remove deprecate release introduce drop publish support require end since until")
ALL_VERBS = VERBS | EXCLUSIVE_VERBS | MAKING_VERBS | LOCATING_VERBS
POSITIONS = _stems(
    "port channel slot level line page floor track gate room"
)  # labels that are the value of an attribute
NUMBERED = POSITIONS | _stems("version release")  # name their number, and limit no scope
COPULAS = frozenset("is are was were be = :".split())
# A number behind one of these identifies a thing and measures nothing.
LABELS = _stems(
    "version port chapter section step page line rule table figure release phase level node host server room issue ticket number "
    "rfc pep iso cve python code status error exit part volume appendix item example option bit bug episode season day week month year "
    "question task test case sprint build revision model type class group team floor gate track lesson unit stage tier zone "
    "region cluster shard replica instance slot channel no pr worker partition core cpu gpu disk machine device box row column id"
)
# Names behind one of these limit the scope of a statement; the others introduce a value.
SCOPE_PREPOSITIONS = frozenset(
    "on for in with under of when if using via during within without since before after among between unless where".split()
)
# Nouns that have one value at a time.
ATTRIBUTES = _stems(
    "name owner author maintainer leader manager editor host port address colour color language version license licence format "
    "capital default value size timeout limit type branch database framework city country job role title phone email birthday age "
    "password path directory zone timezone deadline status encoding protocol region currency price cost mode level theme shell font "
    "hometown nationality employer boss wife husband partner spouse pet breed hobby food drink preference policy schedule "
    "interval duration period backend engine driver platform runtime compiler vendor provider region location venue favourite favorite"
)
# Keys of `key: value` that name no attribute.
PLAIN_KEYS = frozenset(
    "note notes see example examples todo warning tip hint usage source sources kept fact decision remark caution important question "
    "answer q a reason because why how result results summary info information data user assistant system human agent tool comment "
    "changed added removed fixed new deprecated return returns raises yields param parameters args arguments also "
    "tags tag keywords links link references files class classifier method function event module".split()
)
_SCOPE_WORDS = (
    "prod production staging stage dev development test testing qa uat local ci canary preview sandbox demo live linux windows macos "
    "mac android ios debian ubuntu fedora alpine docker kubernetes aws gcp azure desktop mobile web master primary standby secondary "
    "replica client server reader writer read write upload download input output source target europe asia us eu admin guest"
)
SCOPES = frozenset((*_SCOPE_WORDS.split(), *map(word_stem, _SCOPE_WORDS.split())))  # also as stems: keys of tokens
# Words of file names and headings that name no subject.
PLAIN_NAMES = frozenset(
    "note notes fact facts setting settings config configuration memory memories misc general readme index todo list log new old copy "
    "doc docs document item entry record case part page chunk section mem sample example day session line topic thing stuff idea point "
    "one two three four first second third last other another test tmp temp draft file data info details overview main shared markdown "
    "md txt about what and the for with".split()
)
# Verbs with which a command or a description without a subject begins.
COMMANDS = _stems(
    "return raise create delete remove send receive start stop open close read write load store save get set call add update "
    "check ensure print show display convert parse find make take give include see run use test tell indicate bind emit "
    "apply compute generate specify define describe determine represent process handle set"
)
