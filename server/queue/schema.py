"""The tables. A step is never changed once it has been released: a change is a step more."""

from __future__ import annotations

__all__ = ["MIGRATIONS"]

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # `seq` counts acceptances: never used twice, so it breaks ties of `number` and names a place in the queue.
        # The wide columns come last: reading the narrow ones does not touch their pages.
        """CREATE TABLE prompts (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, number REAL NOT NULL, state TEXT NOT NULL,
            client_id TEXT, created REAL NOT NULL, started REAL, finished REAL,
            attempts INT NOT NULL DEFAULT 0, crashes INT NOT NULL DEFAULT 0, epoch INT NOT NULL DEFAULT 0,
            cancelling INT NOT NULL DEFAULT 0, size INT NOT NULL DEFAULT 0, digest BLOB NOT NULL, webhook TEXT,
            targets TEXT NOT NULL, node_errors TEXT NOT NULL, workflow TEXT NOT NULL, extra TEXT NOT NULL,
            outputs TEXT NOT NULL DEFAULT '{}', meta TEXT NOT NULL DEFAULT '{}',
            messages TEXT NOT NULL DEFAULT '[]')""",
        # The running one first, then those that wait, in their order.
        "CREATE INDEX prompts_active ON prompts (state DESC, number, seq) WHERE finished IS NULL",
        "CREATE INDEX prompts_finished ON prompts (finished, seq, state, started, size) WHERE finished IS NOT NULL",
        "CREATE INDEX prompts_of_client ON prompts (client_id, state)",
        """CREATE TABLE events (
            prompt INT NOT NULL, number INT NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL,
            PRIMARY KEY (prompt, number)) WITHOUT ROWID""",
        # Prompts that have ended, but whose notes about written files may still lie beside the outputs.
        "CREATE TABLE loose_claims (id TEXT PRIMARY KEY) WITHOUT ROWID",
        """CREATE TABLE webhooks (
            id TEXT PRIMARY KEY, prompt_id TEXT NOT NULL, url TEXT NOT NULL, body TEXT NOT NULL,
            attempts INT NOT NULL DEFAULT 0, due REAL, delivered REAL, error TEXT)""",
        "CREATE INDEX webhooks_due ON webhooks (due) WHERE due IS NOT NULL",
    ),
    (
        # How many prompts are in each state, so that nobody has to count a long queue.
        "CREATE TABLE counts (state TEXT PRIMARY KEY, prompts INT NOT NULL) WITHOUT ROWID",
        "INSERT INTO counts VALUES ('pending', 0), ('running', 0), ('done', 0), ('failed', 0), ('cancelled', 0)",
        "UPDATE counts SET prompts = (SELECT count(*) FROM prompts WHERE prompts.state = counts.state)",
        """CREATE TRIGGER count_in AFTER INSERT ON prompts BEGIN
            UPDATE counts SET prompts = prompts + 1 WHERE state = NEW.state; END""",
        """CREATE TRIGGER count_on AFTER UPDATE OF state ON prompts WHEN OLD.state != NEW.state BEGIN
            UPDATE counts SET prompts = prompts - 1 WHERE state = OLD.state;
            UPDATE counts SET prompts = prompts + 1 WHERE state = NEW.state; END""",
        """CREATE TRIGGER count_out AFTER DELETE ON prompts BEGIN
            UPDATE counts SET prompts = prompts - 1 WHERE state = OLD.state; END""",
    ),
    (
        # How many prompts of each sender wait, so that one of them cannot fill the queue for all.
        "ALTER TABLE prompts ADD COLUMN sender TEXT NOT NULL DEFAULT ''",
        "CREATE TABLE waiting (sender TEXT PRIMARY KEY, prompts INT NOT NULL) WITHOUT ROWID",
        "INSERT INTO waiting SELECT sender, count(*) FROM prompts WHERE state = 'pending' GROUP BY sender",
        """CREATE TRIGGER wait_in AFTER INSERT ON prompts WHEN NEW.state = 'pending' BEGIN
            INSERT INTO waiting VALUES (NEW.sender, 1) ON CONFLICT DO UPDATE SET prompts = prompts + 1; END""",
        """CREATE TRIGGER wait_again AFTER UPDATE OF state ON prompts
            WHEN OLD.state != 'pending' AND NEW.state = 'pending' BEGIN
            INSERT INTO waiting VALUES (NEW.sender, 1) ON CONFLICT DO UPDATE SET prompts = prompts + 1; END""",
        """CREATE TRIGGER wait_no_more AFTER UPDATE OF state ON prompts
            WHEN OLD.state = 'pending' AND NEW.state != 'pending' BEGIN
            UPDATE waiting SET prompts = prompts - 1 WHERE sender = OLD.sender;
            DELETE FROM waiting WHERE sender = OLD.sender AND prompts <= 0; END""",
        """CREATE TRIGGER wait_out AFTER DELETE ON prompts WHEN OLD.state = 'pending' BEGIN
            UPDATE waiting SET prompts = prompts - 1 WHERE sender = OLD.sender;
            DELETE FROM waiting WHERE sender = OLD.sender AND prompts <= 0; END""",
    ),
    (
        # What a submission was warned of, so that the same one is answered the same.
        "ALTER TABLE prompts ADD COLUMN warnings TEXT NOT NULL DEFAULT '[]'",
    ),
    (
        # One row. `owner` goes up with every server that opens the file: one with an older number writes nothing more.
        "CREATE TABLE server (id INTEGER PRIMARY KEY CHECK (id = 1), owner INT NOT NULL, paused INT NOT NULL)",
        "INSERT INTO server VALUES (1, 0, 0)",
    ),
    (
        # It ran beside others when their process died: until its end it runs alone, so that only who kills a worker
        # is given up.
        "ALTER TABLE prompts ADD COLUMN alone INT NOT NULL DEFAULT 0",
    ),
    (
        # Prompts with the same likeness may share passes. `passes` is how many do, as was decided at the first claim.
        "ALTER TABLE prompts ADD COLUMN likeness TEXT",
        "ALTER TABLE prompts ADD COLUMN passes INT",
    ),
    (
        # What lists show of each prompt and what a search looks in, apart from the wide columns.
        """CREATE TABLE summaries (
            seq INTEGER PRIMARY KEY, text TEXT NOT NULL, words TEXT NOT NULL, program TEXT NOT NULL)""",
        "CREATE TRIGGER summary_out AFTER DELETE ON prompts BEGIN DELETE FROM summaries WHERE seq = OLD.seq; END",
        # Seconds of node types and of whole programs, for each model, size and number of steps.
        "CREATE TABLE timings (name TEXT NOT NULL, setting TEXT NOT NULL, at REAL NOT NULL, seconds REAL NOT NULL)",
        "CREATE INDEX timings_of ON timings (name, setting, at)",
    ),
    (
        # `worker` is the name of the one that has it. Waiting prompts: a higher priority goes first.
        "ALTER TABLE prompts ADD COLUMN worker TEXT",
        "ALTER TABLE prompts ADD COLUMN losses INT NOT NULL DEFAULT 0",
        "ALTER TABLE prompts ADD COLUMN priority INT NOT NULL DEFAULT 0",
        "ALTER TABLE prompts ADD COLUMN deadline REAL",
        "DROP INDEX prompts_active",
        "CREATE INDEX prompts_active ON prompts (state DESC, priority DESC, number, seq) WHERE finished IS NULL",
        "CREATE INDEX prompts_due ON prompts (deadline) WHERE finished IS NULL AND deadline IS NOT NULL",
        # Seconds of a row of a pass, for prompts of a likeness and each number of prompts that share passes.
        """CREATE TABLE pass_costs (
            likeness TEXT NOT NULL, passes INT NOT NULL, at REAL NOT NULL, seconds REAL NOT NULL,
            PRIMARY KEY (likeness, passes)) WITHOUT ROWID""",
        "CREATE INDEX pass_costs_at ON pass_costs (at)",
        # When what ran where, of each prompt that has ended.
        "CREATE TABLE traces (prompt INTEGER PRIMARY KEY, data TEXT NOT NULL)",
        "CREATE TRIGGER trace_out AFTER DELETE ON prompts BEGIN DELETE FROM traces WHERE prompt = OLD.seq; END",
    ),
    (
        # The cost of a row in passes that so many prompts share, as a part of that in passes of a prompt's own.
        "DROP TABLE pass_costs",
        """CREATE TABLE pass_ratios (
            likeness TEXT NOT NULL, passes INT NOT NULL, at REAL NOT NULL, calculated REAL, ratios TEXT NOT NULL,
            PRIMARY KEY (likeness, passes)) WITHOUT ROWID""",
        "CREATE INDEX pass_ratios_at ON pass_ratios (at)",
    ),
)
