"""The second set of templates of statements, written before the rules for their kinds.

By their positions, half of them were looked at when the rules were made: SEEN. HELD_OUT were only measured with; three
false conflicts of theirs, before the rules were finished, were looked at and mended.
"""

from benchmarks.memory_conflict_templates import Template, parse_values

SEEN = (
    Template("keynote", "weekday", ("The {s} starts on {v}.", "The {s} begins every {v}.", "We hold the {s} on {v}s."),
             ("choir practice", "parts delivery", "market"), parse_values("Tuesday,Wednesday,Sunday,Saturday")),
    Template("duty", "weekday", ("The {s} runs each {v}.", "{v} is the day of the {s}."),
             ("stock count", "fire inspection", "payroll job"), parse_values("Monday,Thursday,Friday,Sunday")),
    Template("interpreter", "version", ("The {s} runs on Python {v}.", "The {s} targets Python {v}.", "Python {v} powers the {s}."),
             ("ingest daemon", "notebook server"), parse_values("3.9,3.11,3.12,3.13")),
    Template("upgrade", "version", ("The {s} is on {v} now.", "The {s} is now at version {v}.", "{S} version: {v}."),
             ("mail gateway", "wiki"), parse_values("v7.4=7.4,v7.5=7.5,v8.0.1=8.0.1")),
    Template("deposit", "currency", ("The deposit for the {s} is {v}.", "The {s} needs a deposit of {v}."),
             ("projector", "bike"), parse_values("£50=50 pounds=GBP 50,£75=75 pounds,€50=50 euros,50 CHF=50 francs")),
    Template("mass", "unit", ("The {s} can lift {v}.", "The lifting capacity of the {s} is {v}.", "The {s} lifts up to {v}."),
             ("crane", "drone"), parse_values("40 kg=40 kilograms,2 tonnes=2000 kg,500 g=0.5 kg")),
    Template("heat", "unit", ("The {s} is set to {v}.", "The set temperature of the {s} is {v}."),
             ("cold store", "greenhouse"), parse_values("4 °C=4 degrees Celsius,8 °C,-18 °C=minus 18 °C")),
    Template("seats", "number", ("The {s} seats {v} people.", "The {s} has {v} seats.", "There are {v} seats in the {s}."),
             ("lecture hall", "shuttle"), parse_values("12=twelve,24=twenty-four,40=forty")),
    Template("launch", "date", ("The launch of the {s} is on {v}.", "The {s} launches on {v}.", "{S} launch: {v}."),
             ("shop", "museum app"), parse_values("12 May 2027=2027-05-12,19 May 2027=19.05.2027,2 June 2027")),
    Template("supports", "negation", ("The {s} {v} dark mode.", "Dark mode: the {s} {v} it."),
             ("kiosk", "player"), parse_values("supports,does not support=doesn't support")),
    Template("on", "negation", ("Backups of the {s} are {v}.", "The backups of the {s} have been {v}."),
             ("tablet", "lab notebook"), parse_values("encrypted,not encrypted=unencrypted")),
    Template("tutor", "name", ("{v} tutors {s}.", "{S}'s tutor is {v}.", "The tutor of {s} is {v}."),
             ("Milan", "Rosa"), parse_values("Noor,Elias Brandt,Yuki"), "{v} and {w} tutor {s}."),
)  # fmt: skip

HELD_OUT = (
    Template("closed", "weekday", ("The {s} is closed on {v}.", "The {s} stays closed on {v}.", "Closing day of the {s}: {v}."),
             ("canteen", "archive room"), parse_values("Mon=Monday,Tue=Tuesday,Wed=Wednesday,Fri=Friday")),
    Template("pinned", "version", ("The {s} is pinned to {v}.", "The {s} stays at {v}.", "The pinned version of the {s} is {v}."),
             ("linter", "router image"), parse_values("v1.2=1.2,v1.3=1.3,v2.0=2.0")),
    Template("protocol", "version", ("The {s} speaks version {v} of the protocol.", "The protocol version of the {s} is {v}."),
             ("smart meter", "turnstile"), parse_values("2,3,4")),
    Template("rent", "currency", ("The rent of the {s} is {v}.", "The {s} rents for {v}.", "The rent for the {s} comes to {v}."),
             ("studio", "loft", "boat shed"), parse_values("EUR 700=700 euros=€700,€850=850 EUR,$900=900 US dollars")),
    Template("fine", "currency", ("A late return of the {s} is fined {v}.", "The fine for a late return of the {s} is {v}."),
             ("van", "key card"), parse_values("$15=15 dollars=USD 15,$40=40 dollars,€15=15 euros")),
    Template("memory", "unit", ("The {s} has {v} of RAM.", "The RAM of the {s} is {v}.", "{S} RAM: {v}."),
             ("build host", "till"), parse_values("8 GB=8192 MB,16 GB=16 gigabytes,32 GB")),
    Template("interval", "number", ("The {s} polls every {v}.", "The polling interval of the {s} is {v}."),
             ("feeder", "rain gauge"), parse_values("10 seconds=ten seconds,30 seconds=half a minute,5 minutes=five minutes")),
    Template("term", "date", ("The contract with the {s} ends on {v}.", "The contract with the {s} runs until {v}."),
             ("caterer", "landlord"), parse_values("3 March 2027=2027-03-03=March 3rd 2027,30 June 2027=2027-06-30,1 May 2028")),
    Template("opening", "time", ("The {s} opens at {v}.", "Opening time of the {s} is {v}.", "The {s} is open from {v}."),
             ("library", "swimming pool"), parse_values("9:00=9 am,10:30=10.30 am,14:00=2 pm")),
    Template("paid", "negation", ("Members of the {s} {v} pay for parking.", "Parking: members of the {s} {v} pay."),
             ("club", "orchestra"), parse_values("must,do not have to=need not")),
    Template("doctor", "name", ("The {s} is run by {v}.", "{v} runs the {s}.", "{v} is in charge of the {s}."),
             ("north clinic", "repair cafe"), parse_values("Noor,Elias Brandt,Yuki,Paulina"), "{v} and {w} run the {s}."),
    Template("hosting", "name", ("The {s} is hosted in {v}.", "The {s} is hosted by the {v} region.", "The region of the {s} is {v}."),
             ("mirror", "paste bin"), parse_values("Frankfurt,Mumbai,Osaka")),
)  # fmt: skip
