"""The output of a run for people: live progress, the verdict, the HTML page, JUnit. Reads rows and results; runs nothing."""
