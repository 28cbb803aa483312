"""What statements do, by subject: each verb is a function of the world, the process, the CPU and its words."""
