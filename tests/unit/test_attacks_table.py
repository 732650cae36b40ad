"""The table of attacks in SECURITY.md says what the tests did."""

from xml.etree import ElementTree

from tools.attacks import Attack, read, render

REPORT = """<testsuites><testsuite>
<testcase classname="tests.attacks.test_server_tls" name="a">
  <properties><property name="attempts" value="1200"/>
  <property name="figure" value="longest wait 0.1 s"/></properties>
</testcase>
<testcase classname="tests.attacks.test_server_tls" name="b"><failure message="x"/></testcase>
<testcase classname="tests.attacks.test_server_slow" name="c"><error message="x"/></testcase>
</testsuite></testsuites>"""


def test_attempts_failures_and_figures_are_added_up_by_file() -> None:
    attacks = read(ElementTree.fromstring(REPORT))
    tls = attacks["tests.attacks.test_server_tls"]
    assert (tls.tests, tls.attempts, tls.failed) == (2, 1201, 1)
    assert tls.figures == ["longest wait 0.1 s"]
    assert attacks["tests.attacks.test_server_slow"].failed == 1


def test_the_table_has_a_line_for_each_file_and_their_sum() -> None:
    lines = render(read(ElementTree.fromstring(REPORT))).splitlines()
    assert len(lines) == 2 + 2 + 1
    assert lines[-1] == "| all | 3 | 1,202 | 2 |  |"
    assert lines[3].endswith("| 2 | 1,201 | 1 | longest wait 0.1 s |")


def test_of_figures_that_say_the_same_the_worst_is_shown() -> None:
    figures = ["longest wait 0.1 s", "1,200 in all", "longest wait 0.25 s", "longest wait 0.2 s"]
    attack = Attack(tests=4, attempts=4, figures=figures)
    line = render({"tests.attacks.test_server_tls": attack}).splitlines()[2]
    assert line.endswith("| longest wait 0.25 s; 1,200 in all |")
