"""What commands there are: name, where it is, and what it is for in one line."""

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """
    One command, or a group of them that is imported as a whole.

    Attributes:
        module: Of ``offload.cli``.
        attribute: The function, or the ``typer.Typer``, in it.
        summary: As the list of commands has it.
    """

    module: str
    attribute: str
    summary: str


class Group(NamedTuple):
    """Commands that are imported one by one."""

    summary: str
    commands: dict[str, Entry]


INIT: Final = Entry(
    "group",
    "init",
    "Make a group, whose CA is kept on this machine; others join it by: offload invite.",
)
INVITE: Final = Entry(
    "group",
    "invite",
    "Let one other machine join within ten minutes: with a code for a person, or a token.",
)
JOIN: Final = Entry("group", "join", "Join the group of whoever has run: offload invite.")
GROUP: Final = {
    "init": INIT,
    "invite": INVITE,
    "join": JOIN,
    "members": Entry("members", "members", "Show who belongs to the group."),
    "remove": Entry(
        "group",
        "remove",
        "Remove a member: all others cut their links to it, and refuse it from then on.",
    ),
    "promote": Entry(
        "group",
        "promote",
        "Let a member keep the CA's key too, so that it may invite, remove and sign.",
    ),
    "rekey": Entry(
        "group",
        "rekey",
        "Give the group a new CA; its members move over while their jobs run.",
    ),
    "leave": Entry(
        "group",
        "leave",
        "Leave the group, and forget it; jobs and files of the instance stay.",
    ),
}
COMMANDS: Final[dict[str, Entry | Group]] = {
    "run": Entry(
        "serving", "run", "Run an instance until Ctrl-C, which lets running jobs finish first."
    ),
    "submit": Entry(
        "submitting",
        "submit",
        "Add a job; when its id appears it is on the disk, and will be run.",
    ),
    "jobs": Entry("jobs", "jobs", "List the jobs that were added here, newest first."),
    "job": Entry("jobs", "job", "Look at one job, or change what becomes of it."),
    "explain": Entry("jobs", "explain", "Say why a job is where it is, or who would run a topic."),
    "adopt": Entry(
        "adopting",
        "adopt",
        "Take over the jobs of an instance that will not come back; its folder is closed for good.",
    ),
    "dead-letters": Entry("letters", "letters", "Look at outcomes that nobody took; remove some."),
    "topics": Entry(
        "topics", "topics", "Look at what each instance runs; enable, disable, reset it."
    ),
    "queues": Entry("queues", "queues", "Look at the queues; suspend, resume or clear one."),
    "processing": Entry(
        "queues",
        "processing",
        "Let jobs start on this instance, or none, over restarts too; what runs goes on.",
    ),
    "schedules": Entry("schedules", "schedules", "Jobs that are made when it is time."),
    "events": Entry(
        "measures",
        "events",
        "Tell what happens to jobs from now on, until interrupted; with --json a line each.",
    ),
    "statistics": Entry(
        "measures", "statistics", "Show what was counted and measured, by queue and by topic."
    ),
    "topology": Entry(
        "instance", "topology", "Look at the instances, and at what happened to them."
    ),
    "status": Entry("instance", "status", "Show how the own instance is."),
    "doctor": Entry(
        "doctor",
        "doctor",
        "Say what keeps this machine and others from seeing each other, and what to do about it.",
    ),
    "snooze": Entry(
        "owner",
        "snooze",
        "Start no job here for a while, over restarts too; without a duration: say how it is.",
    ),
    "config": Entry("settings", "config", "Look at the configuration."),
    "group": Group("The group: make it, invite, join, remove, leave.", GROUP),
    "init": INIT,
    "invite": INVITE,
    "join": JOIN,
    "demo": Entry(
        "showing",
        "demo",
        "Watch three instances share a folder of photos, while one of them is killed.",
    ),
}
