"""What a person sees of a run: live progress, the verdict, the page, JUnit. Reads rows and results; runs nothing."""
