"""What used the machine, second by second, and how late an idle server beside the stack, the control, answered."""
